// The entry point of a worker that serves an engine: the page hands it to `loadModel` as `worker`. Only where a bundler puts the
// library into the page's own file is it needed; otherwise `worker: true` starts one.

import { browserPlatform } from "./platform/browser.ts";
import { pagePort } from "./platform/engine-worker.ts";
import { serveEngine } from "./runtime/worker/serve.ts";

serveEngine(browserPlatform, pagePort());
