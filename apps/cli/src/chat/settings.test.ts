import { describe, expect, test } from "vitest";
import { SETTINGS, settingsOf, withSetting, type Setting } from "./settings.ts";

const setting = (name: string): Setting => SETTINGS.find((one) => one.name === name)!;

describe("settings", () => {
  test("begin with the flags, and defaults where none is given", () => {
    const values = settingsOf({ temperature: 0.5, minP: 0.1, other: 1 });
    expect(values).toMatchObject({ temperature: 0.5, topP: 0.3, minP: 0.1, maxTokens: 1000 });
    expect(values.topK).toBeUndefined();
    expect(values).not.toHaveProperty("other");
  });

  test("change one at a time, and go back to what they were at first", () => {
    const warm = withSetting(settingsOf({}), setting("temperature"), "1.5");
    expect(warm).toEqual({ ...settingsOf({}), temperature: 1.5 });
    expect(withSetting(warm, setting("temperature"), "default")).toEqual(settingsOf({}));
  });

  test("a whole chain takes the place of the single ones, and gives it back", () => {
    const chain = withSetting(settingsOf({ maxTokens: 5 }), setting("sampler"), "temperature(0.5)");
    expect(chain).toMatchObject({ sampler: "temperature(0.5)", maxTokens: 5 });
    expect(chain.topP).toBeUndefined();
    expect(() => withSetting(chain, setting("top-k"), "3")).toThrow(/sampler is a whole chain/);
    expect(withSetting(chain, setting("sampler"), "default")).toEqual(settingsOf({ maxTokens: 5 }));
  });

  test("values that are none, or out of range, are refused", () => {
    expect(() => withSetting(settingsOf({}), setting("top-k"), "many")).toThrow(/^\/top-k many: Expected/);
    expect(() => withSetting(settingsOf({}), setting("top-p"), "-1")).toThrow(/topP is -1/);
    expect(() => withSetting(settingsOf({}), setting("sampler"), "nonsense(")).toThrow();
    expect(() => settingsOf({ temperature: -1 })).toThrow(/temperature is -1/);
  });
});
