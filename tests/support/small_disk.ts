/**
 * A really small disk: a memory file system of a few megabytes, where this machine lets us mount one.
 *
 * @module
 */

/** A disk of so many MB of its own; `undefined` where it cannot be had. */
export async function mountSmallDisk(sizeMB: number) {
  if (Deno.build.os !== "linux") return undefined;
  const path = await Deno.makeTempDir({ prefix: "spool-disk-" });
  const run = async (command: string, args: string[]) => {
    try {
      const { success } = await new Deno.Command(command, { args, stderr: "null" }).output();
      return success;
    } catch {
      return false; // no such program
    }
  };
  if (!await run("mount", ["-t", "tmpfs", "-o", `size=${sizeMB}m`, "tmpfs", path])) {
    await Deno.remove(path);
    return undefined;
  }
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      await run("umount", [path]);
      await Deno.remove(path);
    },
  };
}

/** Whether such disks can be had here, for the `ignore` and the name of a test. */
export async function smallDisks(): Promise<{ readonly ignore: boolean; readonly reason: string }> {
  const probe = await mountSmallDisk(1);
  await probe?.[Symbol.asyncDispose]();
  const ignore = probe === undefined;
  return { ignore, reason: ignore ? " (skipped: a small disk cannot be mounted here)" : "" };
}
