// @ts-check
/** What this pack draws by itself, in the language of the page. */

import { ZH } from "./words_zh.js";

/** @type {Record<string, Record<string, string>>} by the value of the setting Comfy.Locale */
const LANGUAGES = { zh: ZH };
let language = () => "en";

/** @param {() => unknown} of asked each time: the user may change it */
export function speak(of) {
  language = () => String(of());
}

/**
 * A text in the user's language; where there is none for it, as it is.
 * @param {string} english
 * @returns {string}
 */
export function said(english) {
  const words = LANGUAGES[language()];
  return words ? found(words, english) : english;
}

/** @type {Map<Record<string, string>, [RegExp, string][]>} */
const patterns = new Map();

/**
 * By the whole text, or by the first pattern that fits all of it; its parts are looked up in the same way.
 * @param {Record<string, string>} words
 * @param {string} english
 * @returns {string}
 */
function found(words, english) {
  if (Object.hasOwn(words, english)) return words[english];
  for (const [pattern, text] of patternsOf(words)) {
    const parts = pattern.exec(english);
    if (parts) return text.replace(/\{(\d+)\}/g, (_, number) => part(words, parts[Number(number) + 1]));
  }
  return english;
}

/**
 * @param {Record<string, string>} words
 * @param {string} english
 */
function part(words, english) {
  return /^\w+$/.test(english) ? english : found(words, english);
}

/** @param {Record<string, string>} words */
function patternsOf(words) {
  let made = patterns.get(words);
  if (!made) {
    made = Object.entries(words)
      .filter(([english]) => english.includes("{0}"))
      .map(([english, text]) => [new RegExp(`^${english.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{\d+\}/g, "(.+?)")}$`, "s"), text]);
    patterns.set(words, made);
  }
  return made;
}
