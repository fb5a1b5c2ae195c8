/** The addon; `NativeAddon` of rwkv describes it, and whoever loads it checks that it was built for that version. */
export const addon: unknown;
