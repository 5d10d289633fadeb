/**
 * A test that is run twice: as the program is started by its task, and without the right to call the C
 * library (`core/libc.ts`), which is also how it is on macOS and Windows.
 *
 * @module
 */

/** Registers a test of what has to hold with and without the C library. */
export function testBothWays(name: string, fn: () => Promise<void>): void {
  Deno.test(name, fn);
  const others = ["read", "write", "net", "env", "run", "sys"] as const;
  Deno.test({
    name: `${name} (without the C library)`,
    permissions: {
      ...Object.fromEntries(others.map((kind) => [kind, "inherit"])),
      ffi: false,
    },
    fn,
  });
}
