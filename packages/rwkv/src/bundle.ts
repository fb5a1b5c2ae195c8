// The entry point of the library as one module (bundle.js makes it), for pages without a bundler. The same file is its
// threads and the worker of an engine.

import { becomeThread, isThread } from "./platform/thread-worker.ts";

export * from "./browser.ts";

if (isThread()) becomeThread();
