// Translation tables from a naming scheme's names to the official ones: whole names, and names within a layer. A name
// that no table knows stays what it is, so that it can be reported as the file has it.

export interface NameTable {
  /** Names outside the layers. */
  readonly globals: Readonly<Record<string, string>>;
  /** What stands before the layer's number, `model.layers.`. */
  readonly layerPrefix: string;
  /** Names inside a layer, without prefix and number. */
  readonly layer: Readonly<Record<string, string>>;
}

/** Both norms' tensors under `from` and `to`. */
export function normNames(from: string, to: string): Record<string, string> {
  return { [`${from}.weight`]: `${to}.weight`, [`${from}.bias`]: `${to}.bias` };
}

export function translate(name: string, table: NameTable): string {
  const whole = lookUp(table.globals, name);
  if (whole !== undefined) return whole;
  if (name.startsWith(table.layerPrefix)) {
    const [, index, inner] = /^(\d+)\.(.*)$/s.exec(name.slice(table.layerPrefix.length)) ?? [];
    const translated = inner === undefined ? undefined : lookUp(table.layer, inner);
    if (translated !== undefined) return `blocks.${index!}.${translated}`;
  }
  return name;
}

/** The way back: from official names, within or outside layers, to those of the table. */
export function inverseOf(table: NameTable): (official: string) => string {
  const turn = (record: Readonly<Record<string, string>>): Map<string, string> =>
    new Map(Object.entries(record).map(([name, official]) => [official, name]));
  const globals = turn(table.globals);
  const layer = turn(table.layer);
  return (official) => {
    const [, index, inner] = /^blocks\.(\d+)\.(.*)$/.exec(official) ?? [];
    return globals.get(official) ?? `${table.layerPrefix}${index!}.${layer.get(inner!)!}`;
  };
}

/** Names are the file's: one called `constructor` must find nothing. */
function lookUp(table: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}
