/**
 * `deno task wasm`: compiles core/media/jpeg_planes.as (AssemblyScript, fetched from npm for this) to
 * the module that core/media/jpeg_planes_wasm.ts holds as text, so that the program needs no file
 * and no compiler. To be run after each change of the source; a test notices when it was forgotten.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";

const COMPILER = "npm:assemblyscript@0.28.20/asc";
const SOURCE = fileURLToPath(new URL("../core/media/jpeg_planes.as", import.meta.url));
const TARGET = fileURLToPath(new URL("../core/media/jpeg_planes_wasm.ts", import.meta.url));

const folder = await Deno.makeTempDir({ prefix: "camsink-wasm-" });
try {
  // The compiler takes only names that end in .ts.
  await Deno.copyFile(SOURCE, `${folder}/jpeg_planes.ts`);
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-lock", "--no-config", "--allow-read", "--allow-write", "--allow-env"],
      ...["--allow-sys", COMPILER, "jpeg_planes.ts", "-o", "out.wasm", "-O3", "--noAssert"],
      ...["--runtime", "stub", "--enable", "simd", "--initialMemory", "1"],
    ],
    cwd: folder,
    stdout: "inherit",
    stderr: "piped",
  }).output();
  if (code !== 0) {
    console.error(new TextDecoder().decode(stderr));
    Deno.exit(1);
  }
  const wasm = await Deno.readFile(`${folder}/out.wasm`);
  const sha256 = createHash("sha256").update(await Deno.readFile(SOURCE)).digest("hex");
  const lines = wasm.toBase64().match(/.{1,96}/g) ?? [];
  await Deno.writeTextFile(
    TARGET,
    `/**
 * Made by \`deno task wasm\` from jpeg_planes.as: do not change by hand.
 *
 * @module
 */

/** Of the source that this was made from. */
export const SOURCE_SHA256 = "${sha256}";

/** The module, as base64. */
export const MODULE = [
${lines.map((line) => `  "${line}",`).join("\n")}
].join("");
`,
  );
  console.log(`${TARGET}: ${wasm.length} bytes of WebAssembly`);
} finally {
  await Deno.remove(folder, { recursive: true });
}
