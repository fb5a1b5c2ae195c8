#!/usr/bin/env node
// Committed launcher: npm links a bin only if its file exists at install time, before anything is built.
import("../dist/main.js").then(
  ({ main }) => main(process.argv),
  (error) => {
    if (error?.code !== "ERR_MODULE_NOT_FOUND") throw error;
    process.stderr.write(
      `rwkv: ${error.message}\nThe command is not built yet: run "npm run build" in the project's root.\n`,
    );
    process.exitCode = 1;
  },
);
