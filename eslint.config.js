import js from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  {
    ignores: [
      "**/dist/",
      "**/node_modules/",
      "docs/api/",
      "packages/native/build/",
      "packages/rwkv/src/backends/cpu/{wasm,generated}/",
      "packages/train/src/kernels/{wasm,generated}/",
    ],
  },
  js.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: { project: "./tsconfig.test.json", tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        { considerDefaultExhaustiveForUnions: true },
      ],
      // Arrow functions that forward a call are the readable form of a table of methods.
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // `!` stands where an index was checked once, outside the loop (see noUncheckedIndexedAccess).
      "@typescript-eslint/no-non-null-assertion": "off",
      "no-restricted-syntax": [
        "error",
        { selector: "ExportDefaultDeclaration", message: "Named exports only." },
        { selector: "TSEnumDeclaration", message: "Use a union of literals." },
      ],
      eqeqeq: "error",
      "no-console": "error",
    },
  },
  {
    files: ["**/*.js"],
    languageOptions: { globals: { process: "readonly", console: "readonly", URL: "readonly" } },
  },
  {
    files: ["packages/rwkv/src/platform/**/*.js"],
    languageOptions: {
      globals: { WebAssembly: "readonly", addEventListener: "readonly", postMessage: "readonly" },
    },
  },
  {
    files: ["examples/browser/page.js"],
    languageOptions: {
      globals: {
        AbortController: "readonly",
        document: "readonly",
        performance: "readonly",
      },
    },
  },
  {
    files: ["bench/peers/*.js"],
    languageOptions: {
      globals: {
        crossOriginIsolated: "readonly",
        fetch: "readonly",
        location: "readonly",
        performance: "readonly",
        URLSearchParams: "readonly",
      },
    },
  },
  // Tests say on the console why they skip.
  { files: ["test/**/*.ts", "**/*.test.ts", "**/testing.ts"], rules: { "no-console": "off" } },
  { files: ["**/*.config.ts"], rules: { "no-restricted-syntax": "off" } },
);
