/**
 * The sinks that come with Camsink: the table that a configuration's `type` is looked up in.
 *
 * @module
 */
import type { SinkPlugin } from "../mod.ts";
import { azureBlob, type AzureBlobOptions } from "./azure_blob.ts";
import { localFolder, type LocalFolderOptions } from "./local_folder.ts";

/** By their `type`. */
export const builtinSinks: {
  readonly "azure-blob": SinkPlugin<AzureBlobOptions>;
  readonly "local-folder": SinkPlugin<LocalFolderOptions>;
} = {
  "azure-blob": azureBlob,
  "local-folder": localFolder,
};
