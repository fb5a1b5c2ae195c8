// The worker of a thread in browsers, where the library is the files that it was built as.

/** A worker that runs the task of its first message. */
export function startThread(): Worker {
  // Bundlers recognise this form and give the file a name of its own.
  return new Worker(new URL("./thread.js", import.meta.url), { type: "module" });
}
