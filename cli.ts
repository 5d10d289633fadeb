/**
 * The program. What is asked most often, by scripts and by people who look whether it is there, is
 * answered before anything else is loaded: parsing a command line costs three times what Deno's own
 * start does.
 *
 * @module
 */
import { describeVersion } from "./commands/version.ts";

if (import.meta.main) {
  const [first, ...others] = Deno.args;
  if ((first === "--version" || first === "-V") && others.length === 0) {
    console.log(await describeVersion());
    Deno.exit(0);
  }
  if (first === "status") {
    const { quickStatus } = await import("./commands/status.ts");
    const code = await quickStatus(others);
    if (code !== undefined) Deno.exit(code);
  }
  const { main, surviveStrayErrors } = await import("./commands/main.ts");
  surviveStrayErrors();
  // Exits by hand: a worker or a socket that was left open must not keep the process alive.
  Deno.exit(await main(Deno.args));
}
