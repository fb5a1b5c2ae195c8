// Puts the built library for browsers and the packages that it imports into one module, dist/bundle/rwkv.js, which a page
// imports as it is.

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const dist = join(dirname(fileURLToPath(import.meta.url)), "dist");

const BANNER = `/*! rwkv.ts, MIT. Holds @huggingface/jinja (MIT) and @huggingface/tokenizers (Apache-2.0), (c) Hugging Face:
 * https://github.com/huggingface/huggingface.js, https://github.com/huggingface/tokenizers.js */`;

const bundle = await rolldown({
  input: join(dist, "bundle.js"),
  platform: "browser",
  resolve: {
    alias: { [join(dist, "platform/start-thread.js")]: join(dist, "platform/start-thread-bundled.js") },
  },
});
await bundle.write({
  file: join(dist, "bundle/rwkv.js"),
  format: "esm",
  sourcemap: true,
  // Errors are called after their classes.
  keepNames: true,
  minify: true,
  codeSplitting: false,
  postBanner: BANNER,
});
await bundle.close();
