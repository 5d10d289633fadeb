/**
 * What `camsink init` asks, in the order in which it asks: which cameras, their credentials, which
 * sinks. Nothing is tried and nothing is written here; secrets are only ever references.
 *
 * @module
 */
import type { FoundCamera } from "../core/sources/onvif/discovery.ts";
import { parseRtspUrl, withoutLogin } from "../core/sources/rtsp/url.ts";
import type { InitArguments } from "./arguments.ts";
import { CONSOLE_STEPS } from "./google_consent.ts";
import { type Prompter, type TextQuestion, usageError } from "./prompter.ts";

/** The cameras of a new configuration. */
export type SourceAnswers =
  | {
    readonly type: "nest";
    readonly name: string;
    /** References by option name: `accessToken`, or `issueToken` and `cookie`. */
    readonly credentials: Readonly<Record<string, string>>;
    readonly endpoints: Readonly<Record<string, string>>;
    readonly width: number;
    readonly fps: number;
  }
  | {
    readonly type: "google-sdm";
    readonly name: string;
    readonly projectId: string;
    readonly clientId: string;
    /** References: `clientSecret`, `refreshToken`. */
    readonly credentials: Readonly<Record<string, string>>;
    readonly endpoints: Readonly<Record<string, string>>;
  }
  | {
    readonly type: CameraType;
    readonly name: string;
    readonly url: string;
    readonly username?: string;
    readonly password?: string;
    readonly fps?: number;
  };

/** Kinds of single cameras. */
export type CameraType = "onvif" | "rtsp" | "mjpeg" | "snapshot";

/** A sink of a new configuration. */
export type SinkAnswers =
  | { readonly type: "local-folder"; readonly name: "local"; readonly path: string }
  | {
    readonly type: "azure-blob";
    readonly name: "azure";
    readonly account?: string;
    readonly sasToken?: string;
    readonly connectionString?: string;
    readonly container: string;
  };

/** How the questions are asked. */
export interface AskOptions {
  readonly args: InitArguments;
  readonly prompter: Prompter;
  /** Keeps a pasted secret in a file that only the user can read; gives its reference. */
  readonly keepSecret: (name: string, value: string) => Promise<string>;
  /** Looks for cameras on the local network. */
  readonly discover: () => Promise<readonly FoundCamera[]>;
  /** The value of a reference. */
  readonly reveal: (reference: string) => Promise<string>;
  /** Leads through Google's consent; gives the refresh token itself. */
  readonly consent: (client: {
    readonly projectId: string;
    readonly clientId: string;
    readonly clientSecret: string;
    readonly endpoints: Readonly<Record<string, string>>;
  }) => Promise<string>;
}

const NEST_TOKEN_HELP = `Log in at https://home.nest.com, then open https://home.nest.com/session
in the same browser. Copy the first "access_token" (it begins with b.).
It works for about 30 days; do not log out there. This is for a Nest account
that was never moved to Google.`;

const GOOGLE_HELP = `Use a private window of Safari, or a normal one of Firefox with tracking
protection off. Open the developer tools' network view, log in at
https://home.nest.com with Google, then:
  - filter for "issueToken": copy the request's whole URL
  - filter for "oauth2/iframe": of the last request, copy the header "cookie"
    (it must contain SIDCC=)
Close the window without logging out: logging out ends both.`;

/** Asks which cameras. */
export async function askSource(options: AskOptions): Promise<SourceAnswers> {
  const { args, prompter } = options;
  const type = args.source ?? await prompter.choose<"nest" | "google-sdm" | CameraType>({
    flag: "--source",
    message: "What are your cameras?",
    choices: [
      { value: "nest", label: "A Nest account", hint: "all its cameras" },
      {
        value: "google-sdm",
        label: "Nest cameras in Google Home",
        hint: "Device Access, 5 US$ once",
      },
      { value: "onvif", label: "A camera of any make that speaks ONVIF", hint: "found by itself" },
      { value: "rtsp", label: "A camera with an RTSP address" },
      { value: "mjpeg", label: "A camera with an MJPEG stream" },
      { value: "snapshot", label: "A camera with a picture URL" },
    ],
  });
  if (type === "google-sdm") return await askGoogleSdm(options);
  return type === "nest" ? await askNest(options) : await askCamera(type, options);
}

async function askGoogleSdm(options: AskOptions): Promise<SourceAnswers> {
  const { args, prompter } = options;
  const name = await answer(args.name, options, {
    flag: "--name",
    message: "What shall the account be called?",
    usual: "home",
  });
  if (args.projectId === undefined) prompter.note("What to do in Google's consoles", CONSOLE_STEPS);
  const projectId = await answer(args.projectId, options, {
    flag: "--project-id",
    message: "The project id of the Device Access console",
    validate: (text) =>
      /^[\w-]{8,64}$/.test(text)
        ? undefined
        : "expected an id such as 12345678-90ab-cdef-1234-567890abcdef",
  });
  const clientId = await answer(args.clientId, options, {
    flag: "--client-id",
    message: "The OAuth client id",
    validate: (text) =>
      /^[\w-]+\.apps\.googleusercontent\.com$/.test(text)
        ? undefined
        : "expected an id that ends with .apps.googleusercontent.com",
  });
  const clientSecret = await askSecret(args.clientSecret, options, {
    flag: "--client-secret",
    message: "The OAuth client secret",
    variable: "GOOGLE_CLIENT_SECRET",
  });
  const endpoints = Object.fromEntries(args.endpoints.map(parseEndpoint));
  if (args.refreshToken === undefined && !prompter.interactive) {
    throw usageError(
      "give --refresh-token env:GOOGLE_REFRESH_TOKEN or file:PATH: the consent needs somebody who " +
        "answers; camsink init on a terminal leads through it",
    );
  }
  const refreshToken = args.refreshToken === undefined
    ? await options.keepSecret(
      "google-refresh-token",
      await options.consent({
        projectId,
        clientId,
        clientSecret: await options.reveal(clientSecret),
        endpoints,
      }),
    )
    : await askSecret(args.refreshToken, options, {
      flag: "--refresh-token",
      message: "The refresh token",
      variable: "GOOGLE_REFRESH_TOKEN",
    });
  return {
    type: "google-sdm",
    name,
    projectId,
    clientId,
    credentials: { clientSecret, refreshToken },
    endpoints,
  };
}

async function askNest(options: AskOptions): Promise<SourceAnswers> {
  const { args, prompter } = options;
  const name = await answer(args.name, options, {
    flag: "--name",
    message: "What shall the account be called?",
    usual: "home",
  });
  const byGoogle = args.issueToken !== undefined || args.cookie !== undefined;
  if (byGoogle && args.accessToken !== undefined) {
    throw usageError("give --access-token, or --issue-token with --cookie, but not both");
  }
  const login = byGoogle ? "google" : args.accessToken !== undefined ? "nest" : await prompter
    .choose({
      flag: "--access-token, or --issue-token with --cookie",
      message: "How do you log in at home.nest.com?",
      choices: [
        { value: "google", label: "With Google" },
        { value: "nest", label: "With a Nest account", hint: "never moved to Google" },
      ],
    });
  let credentials: Record<string, string>;
  if (login === "nest") {
    if (args.accessToken === undefined) prompter.note("Where the token is", NEST_TOKEN_HELP);
    credentials = {
      accessToken: await askSecret(args.accessToken, options, {
        flag: "--access-token",
        message: "The access token",
        variable: "NEST_TOKEN",
      }),
    };
  } else {
    if (args.issueToken === undefined) prompter.note("Where the two are", GOOGLE_HELP);
    credentials = {
      issueToken: await askSecret(args.issueToken, options, {
        flag: "--issue-token",
        message: "The issueToken URL",
        variable: "NEST_ISSUE_TOKEN",
      }),
      cookie: await askSecret(args.cookie, options, {
        flag: "--cookie",
        message: "The cookie",
        variable: "NEST_COOKIE",
      }),
    };
  }
  return {
    type: "nest",
    name,
    credentials,
    endpoints: Object.fromEntries(args.endpoints.map(parseEndpoint)),
    width: args.width ?? 1280,
    fps: args.fps ?? await askFps(options),
  };
}

/** `home=https://…` → `["home", "https://…"]`. */
function parseEndpoint(text: string): readonly [string, string] {
  const [, name, url] =
    /^(accounts|jwt|home|camera|consent|oauth|sdm|pubsub)=(https?:\/\/.+)$/.exec(text) ?? [];
  if (name === undefined || url === undefined) {
    throw usageError(
      `--endpoint: got "${text}", expected accounts, jwt, home or camera (nest), or consent, oauth, ` +
        'sdm or pubsub (google-sdm), "=" and a URL',
    );
  }
  return [name, url];
}

/** What each kind is asked for its address. */
const ADDRESSES: Readonly<Record<CameraType, { readonly message: string; readonly form: RegExp }>> =
  {
    onvif: { message: "The camera's address, such as http://192.168.1.20", form: /^https?:\/\// },
    rtsp: {
      message: "The stream's address, such as rtsp://192.168.1.30/stream1",
      form: /^rtsps?:\/\//i,
    },
    mjpeg: { message: "Which URL gives the MJPEG stream?", form: /^https?:\/\// },
    snapshot: { message: "Which URL gives a JPEG picture?", form: /^https?:\/\// },
  };

async function askCamera(type: CameraType, options: AskOptions): Promise<SourceAnswers> {
  const { args, prompter } = options;
  const found = type === "onvif" && args.url === undefined && prompter.interactive
    ? await chooseFound(options)
    : undefined;
  const typed = found?.url ?? await askAddress(type, options);
  const { url, login } = splitLogin(typed);
  const name = await answer(args.name, options, {
    flag: "--name",
    message: "What shall the camera be called?",
    usual: found?.name || "camera",
  });
  const username = args.username ?? login?.username ??
    (prompter.interactive
      ? (await prompter.text({
        flag: "--username",
        message: "User name at the camera (- for none)",
        usual: "-",
      })).replace(/^-$/, "")
      : "");
  if (username === "" && args.password !== undefined) {
    throw usageError("--password needs --username beside it");
  }
  const password = username === ""
    ? undefined
    : args.password === undefined && login?.username === username && login.password !== ""
    ? await options.keepSecret("camera-password", login.password)
    : await askSecret(args.password, options, {
      flag: "--password",
      message: "Password at the camera",
      variable: "CAMERA_PASSWORD",
    });
  const fps = args.fps ?? (type === "snapshot" ? await askFps(options) : undefined);
  return {
    ...{ type, name, url },
    ...(password === undefined ? {} : { username, password }),
    ...(fps === undefined || type === "rtsp" || type === "onvif" ? {} : { fps }),
  };
}

async function askAddress(type: CameraType, options: AskOptions): Promise<string> {
  const { message, form } = ADDRESSES[type];
  const schemes = type === "rtsp" ? "rtsp:// or rtsps://" : "http:// or https://";
  const isWhole = (text: string) =>
    form.test(text) && (type === "rtsp" ? parseRtspUrl(text) !== undefined : URL.canParse(text));
  const { url } = options.args;
  // Typed at a terminal the login is taken out; a command line is seen by others.
  if (url !== undefined && isWhole(url) && splitLogin(url).login !== undefined) {
    throw usageError(
      "--url: leave user name and password out of the URL: --username and --password take them",
    );
  }
  return await answer(url, options, {
    flag: "--url",
    message,
    validate: (text) =>
      isWhole(text) ? undefined : `expected an address that starts with ${schemes}`,
  });
}

/** Lets the user choose among the cameras that answer; `undefined` where it is none of them. */
async function chooseFound(
  { prompter, discover }: AskOptions,
): Promise<FoundCamera | undefined> {
  const cameras = await prompter.busy("Looking for cameras on this network", discover);
  if (cameras.length === 0) {
    prompter.note(
      "No camera answered",
      "ONVIF may be switched off in the camera's settings, or the network keeps such\n" +
        "questions to itself. The camera's address works all the same.",
    );
    return undefined;
  }
  const chosen = await prompter.choose({
    flag: "--url",
    message: "Which camera?",
    choices: [
      ...cameras.map(({ url, name, model }) => ({
        value: url,
        label: [name, model].filter(Boolean).join(", ") || url,
        hint: url,
      })),
      { value: "", label: "Another one, by its address" },
    ],
  });
  return cameras.find(({ url }) => url === chosen);
}

/** The address without the login that is in it, and the login. */
function splitLogin(text: string): {
  readonly url: string;
  readonly login?: { readonly username: string; readonly password: string };
} {
  if (/^rtsps?:/i.test(text)) {
    const login = parseRtspUrl(text)?.credentials;
    return login === undefined ? { url: text } : { url: withoutLogin(text), login };
  }
  const url = new URL(text);
  if (url.username === "" && url.password === "") return { url: text };
  const plain = (part: string) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part; // a % that is no escape is a letter of the password
    }
  };
  const login = { username: plain(url.username), password: plain(url.password) };
  url.username = url.password = "";
  return { url: url.href, login };
}

async function askFps({ prompter }: AskOptions): Promise<number> {
  return Number(
    await prompter.text({
      flag: "--fps",
      message: "Pictures a second",
      usual: "2",
      validate: (text) =>
        Number(text) >= 0.01 && Number(text) <= 30 ? undefined : "expected 0.01 to 30",
    }),
  );
}

/** Asks which sinks. */
export async function askSinks(options: AskOptions): Promise<readonly SinkAnswers[]> {
  const { args, prompter } = options;
  const implied = [
    ...(args.localPath === undefined ? [] : ["local" as const]),
    ...(args.azureAccount === undefined && args.azureSas === undefined &&
        args.azureConnectionString === undefined
      ? []
      : ["azure" as const]),
  ];
  const given = [...new Set([...args.sinks, ...implied])];
  const wanted = given.length > 0 ? given : await prompter.chooseSome({
    flag: "--sink",
    message: "Where shall the clips go?",
    choices: [
      { value: "local", label: "A folder of this machine" },
      { value: "azure", label: "Azure Blob Storage" },
    ],
    usual: ["local"],
  });
  const sinks: SinkAnswers[] = [];
  if (wanted.includes("local")) {
    const path = await answer(args.localPath, options, {
      flag: "--local-path",
      message: "Which folder?",
      usual: "./clips",
    });
    sinks.push({ type: "local-folder", name: "local", path });
  }
  if (wanted.includes("azure")) sinks.push(await askAzure(options));
  return sinks;
}

async function askAzure(options: AskOptions): Promise<SinkAnswers> {
  const { args, prompter } = options;
  const container = args.azureContainer ?? "{camera}";
  const common = { type: "azure-blob", name: "azure", container } as const;
  const how = args.azureConnectionString !== undefined
    ? "connection-string"
    : args.azureAccount !== undefined || args.azureSas !== undefined || !prompter.interactive
    ? "sas"
    : await prompter.choose({
      flag: "--azure-account with --azure-sas, or --azure-connection-string",
      message: "How does Camsink get into the storage account?",
      choices: [
        { value: "sas", label: "SAS token", hint: "limited rights, ends at a date: the safer one" },
        { value: "connection-string", label: "Connection string", hint: "every right" },
      ],
    });
  if (how === "connection-string") {
    return {
      ...common,
      connectionString: await askSecret(args.azureConnectionString, options, {
        flag: "--azure-connection-string",
        message: "The connection string",
        variable: "AZURE_STORAGE_CONNECTION_STRING",
      }),
    };
  }
  const account = await answer(args.azureAccount, options, {
    flag: "--azure-account",
    message: "The storage account's name",
    validate: (text) =>
      /^[a-z0-9]{3,24}$/.test(text) ? undefined : "expected 3 to 24 lower-case letters and digits",
  });
  if (args.azureSas === undefined) {
    prompter.note(
      "Where the SAS token is",
      "Azure portal → your storage account → Shared access signature: allow the\n" +
        "service Blob, the resource types Container and Object, and the permissions\n" +
        "Read, Write, Delete, List, Create, Tag. Copy the SAS token.",
    );
  }
  return {
    ...common,
    account,
    sasToken: await askSecret(args.azureSas, options, {
      flag: "--azure-sas",
      message: "The SAS token",
      variable: "AZURE_SAS",
    }),
  };
}

/** The flag's answer if it was given and is right, else the prompter's. */
async function answer(
  given: string | undefined,
  { prompter }: AskOptions,
  question: TextQuestion,
): Promise<string> {
  if (given === undefined) return await prompter.text(question);
  const wrong = question.validate?.(given);
  if (wrong !== undefined) throw usageError(`${question.flag}: got "${given}", ${wrong}`);
  return given;
}

/** Asks for a secret; what comes back is a reference, never the secret. */
async function askSecret(
  given: string | undefined,
  { prompter, keepSecret }: AskOptions,
  { flag, message, variable }: {
    readonly flag: string;
    readonly message: string;
    readonly variable: string;
  },
): Promise<string> {
  if (given !== undefined) {
    // A flag is in the shell's history and in every process list.
    if (!/^(env|file|keyvault):./.test(given)) {
      throw usageError(
        `${flag}: a secret is given by reference, env:${variable} or file:PATH, ` +
          "because others can see a command line",
      );
    }
    return given;
  }
  const how = await prompter.choose({
    flag: `${flag} env:${variable}`,
    message: `${message}: where is it kept?`,
    choices: [
      {
        value: "paste",
        label: "I paste it now",
        hint: "it is kept in a file that only you can read",
      },
      { value: "env", label: "In an environment variable" },
      { value: "file", label: "In a file" },
    ],
  });
  switch (how) {
    case "paste": {
      const name = variable.toLowerCase().replaceAll("_", "-");
      return await keepSecret(name, await prompter.password({ flag, message }));
    }
    case "env":
      return `env:${await prompter.text({ flag, message: "Which variable?", usual: variable })}`;
    case "file":
      return `file:${await prompter.text({ flag, message: "Which file?" })}`;
  }
}
