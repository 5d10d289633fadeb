/**
 * Questions to the user, in two forms: asked on the terminal, or answered by flags and usual answers
 * alone, so that what is set up by hand can also be set up by a script. Every question names its
 * flag; without a terminal a question that has no usual answer is an error that says which flag to
 * give.
 *
 * @module
 */
import process from "node:process";
import { EXIT, withExitCode } from "../core/exit_codes.ts";

/** What every question has. */
export interface Question {
  /** The flag that answers it, such as `--url`. */
  readonly flag: string;
  readonly message: string;
}

/** A question for a line of text. */
export interface TextQuestion extends Question {
  /** The usual answer. */
  readonly usual?: string;
  /** Says what is wrong with an answer. */
  readonly validate?: (answer: string) => string | undefined;
}

/** One possible answer. */
export interface Choice<T extends string> {
  readonly value: T;
  readonly label: string;
  readonly hint?: string;
}

/** A question for one of some answers. */
export interface ChoiceQuestion<T extends string> extends Question {
  readonly choices: readonly Choice<T>[];
  readonly usual?: T;
}

/** A question for some of some answers. */
export interface ChoicesQuestion<T extends string> extends Question {
  readonly choices: readonly Choice<T>[];
  readonly usual: readonly T[];
}

/** Somebody, or something, that answers. */
export interface Prompter {
  /** A person answers, and may be asked again. */
  readonly interactive: boolean;
  text(question: TextQuestion): Promise<string>;
  /** Typed without being shown. */
  password(question: Question): Promise<string>;
  choose<T extends string>(question: ChoiceQuestion<T>): Promise<T>;
  chooseSome<T extends string>(question: ChoicesQuestion<T>): Promise<readonly T[]>;
  /** Explains something before the next question. */
  note(title: string, text: string): void;
  /** Shows that something takes a while. */
  busy<T>(message: string, task: () => Promise<T>): Promise<T>;
  /** The last words. */
  done(text: string): void;
}

/** An error about flags that are missing or do not fit; exit code 2. */
export function usageError(message: string): Error {
  return withExitCode(new Error(message), EXIT.usage);
}

/** Answers every question with its usual answer. */
export function flagsOnly(say: (line: string) => void): Prompter {
  const missing = ({ flag, message }: Question): never => {
    throw usageError(`"${message}" needs an answer: give ${flag}, or run it on a terminal`);
  };
  return {
    interactive: false,
    text: (question) => Promise.resolve(question.usual ?? missing(question)),
    password: (question) => Promise.resolve(missing(question)),
    choose: (question) => Promise.resolve(question.usual ?? missing(question)),
    chooseSome: (question) => Promise.resolve(question.usual),
    note: () => {},
    busy: (_message, task) => task(),
    done: say,
  };
}

/** Asks on the terminal. Ctrl-C or Escape at a question ends the command: nothing was written yet. */
export async function terminalPrompter(): Promise<Prompter> {
  const clack = await import("@clack/prompts");
  // Data goes to stdout, questions do not.
  const output = process.stderr;
  const answered = <T>(answer: T | typeof clack.CANCEL_SYMBOL): T => {
    if (clack.isCancel(answer)) {
      throw withExitCode(new Error("ended at a question; nothing was written"), EXIT.interrupted);
    }
    return answer;
  };
  clack.intro("Camsink: set up your cameras", { output });
  return {
    interactive: true,
    text: async ({ message, usual, validate }) =>
      answered(
        await clack.text({
          message,
          output,
          ...(usual === undefined ? {} : { placeholder: usual, defaultValue: usual }),
          validate: (answer) => {
            const text = answer?.trim() || usual;
            return text ? validate?.(text) : "an answer is needed here";
          },
        }),
      ).trim(),
    password: async ({ message }) =>
      answered(
        await clack.password({
          message,
          output,
          validate: (answer) => answer?.trim() ? undefined : "an answer is needed here",
        }),
      ).trim(),
    choose: async ({ message, choices, usual }) => {
      // Chosen by place: clack's types want each option's value apart.
      const at = answered(
        await clack.select<number>({
          message,
          output,
          options: choices.map(({ label, hint }, value) => ({ value, label, hint })),
          initialValue: Math.max(0, choices.findIndex(({ value }) => value === usual)),
        }),
      );
      const choice = choices[at];
      if (choice === undefined) throw new Error(`no choice ${at} at "${message}"`);
      return choice.value;
    },
    chooseSome: async ({ message, choices, usual }) => {
      const chosen = answered(
        await clack.multiselect<number>({
          message,
          output,
          required: true,
          options: choices.map(({ label, hint }, value) => ({ value, label, hint })),
          initialValues: [...choices.keys()].filter((at) =>
            usual.some((value) => value === choices[at]?.value)
          ),
        }),
      );
      return choices.filter((_, at) => chosen.includes(at)).map(({ value }) => value);
    },
    note: (title, text) => clack.note(text, title, { output }),
    busy: async (message, task) => {
      const spinner = clack.spinner({ output });
      spinner.start(message);
      try {
        return await task();
      } finally {
        spinner.stop(message);
      }
    },
    done: (text) => clack.outro(text, { output }),
  };
}
