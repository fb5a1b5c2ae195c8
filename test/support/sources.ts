// Sources as JavaScript, for pages that run what tests in Node run.

import { readFileSync } from "node:fs";
import ts from "typescript";

/** @param path - of a TypeScript file; its imports stay as they are */
export function javascriptOf(path: string): string {
  const { outputText } = ts.transpileModule(readFileSync(path, "utf8"), {
    fileName: path,
    compilerOptions: {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      verbatimModuleSyntax: true,
    },
  });
  return outputText;
}
