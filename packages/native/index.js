// Loads the addon that `npm run build:native` leaves in build/. Throws what Node throws when it is not there.

import { createRequire } from "node:module";

export const addon = createRequire(import.meta.url)("./build/Release/rwkv_native.node");
