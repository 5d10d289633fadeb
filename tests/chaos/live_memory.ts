/**
 * What a running program holds once its garbage is collected, asked for over V8's inspector: what a
 * process takes of the machine's memory goes up and down with garbage and never tells a leak from it.
 *
 * https://chromedevtools.github.io/devtools-protocol/v8/
 *
 * @module
 */

/** Of the main thread. */
export interface LiveMemory {
  readonly heapBytes: number;
  /** In buffers outside of the heap. */
  readonly externalBytes: number;
}

/** Collects garbage twice: what is finalised the first time is gone after the second. */
export async function liveMemory(inspector: string): Promise<LiveMemory> {
  const socket = new WebSocket(inspector);
  const waiting = new Map<number, PromiseWithResolvers<unknown>>();
  const failed = (reason: string) => {
    for (const { reject } of waiting.values()) reject(new Error(`the inspector ${reason}`));
  };
  socket.onerror = () => failed("failed");
  socket.onclose = () => failed("has gone");
  socket.onmessage = ({ data }) => {
    const { id, result } = JSON.parse(String(data));
    waiting.get(id)?.resolve(result);
    waiting.delete(id);
  };
  const opened = Promise.withResolvers<unknown>();
  waiting.set(0, opened);
  socket.onopen = () => opened.resolve(undefined);
  await opened.promise;
  waiting.delete(0);
  let lastId = 0;
  const call = (method: string, params: object = {}): Promise<unknown> => {
    const answer = Promise.withResolvers<unknown>();
    waiting.set(++lastId, answer);
    socket.send(JSON.stringify({ id: lastId, method, params }));
    return answer.promise;
  };
  try {
    await call("HeapProfiler.collectGarbage");
    await call("HeapProfiler.collectGarbage");
    const answer = await call("Runtime.evaluate", {
      expression: "JSON.stringify(Deno.memoryUsage())",
    }) as { readonly result: { readonly value: string } };
    const { heapUsed, external } = JSON.parse(answer.result.value);
    return { heapBytes: heapUsed, externalBytes: external };
  } finally {
    socket.close(); // a program that is being inspected does not end
  }
}
