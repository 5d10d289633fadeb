/** Where a sink's clips lie, as it is told to a person. */
import assert from "node:assert/strict";
import { whereOf } from "../../commands/where.ts";
import { makeSecret } from "../../core/config/values.ts";

const CASES: readonly (readonly [fact: string, options: unknown, where: string])[] = [
  ["a folder is its path", { path: "/srv/clips" }, "/srv/clips"],
  [
    "an account is the URL of its container",
    { account: "mystore", container: "{camera}" },
    "https://mystore.blob.core.windows.net/{camera}",
  ],
  [
    "a connection string is the service that it names, without its key",
    {
      connectionString: makeSecret(
        "DefaultEndpointsProtocol=https;AccountName=mystore;AccountKey=c2VjcmV0IGtleQ==;" +
          "EndpointSuffix=core.chinacloudapi.cn",
      ),
      container: "cams",
    },
    "https://mystore.blob.core.chinacloudapi.cn/cams",
  ],
  [
    "a connection string's own endpoint counts first",
    { connectionString: makeSecret("AccountName=a;BlobEndpoint=http://127.0.0.1:1/a;") },
    "http://127.0.0.1:1/a",
  ],
  [
    "a container's SAS URL loses its signature",
    { containerSasUrl: makeSecret("https://mystore.blob.core.windows.net/cams?sig=hush-hush") },
    "https://mystore.blob.core.windows.net/cams",
  ],
  ["anything else is its type", { bucket: 5 }, "some-sink"],
];

for (const [fact, options, where] of CASES) {
  Deno.test(`where the clips lie: ${fact}`, async () => {
    assert.equal(
      await whereOf({ type: "some-sink", enabled: true, required: true, options }),
      where,
    );
  });
}
