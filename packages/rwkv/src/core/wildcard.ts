// Patterns of names, in which `*` stands for any characters and everything else for itself.

/** The source of a regular expression (flag `s`) that fits what the pattern fits. */
export function wildcardSource(pattern: string): string {
  return pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replace(/\*+/g, ".*");
}
