// A page of the documentation, followed as it is written.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { SOURCE } from './server.js';

/** The code blocks of a page by their titles: ```js server.mjs */
export async function blocks(page: string): Promise<Map<string, string>> {
  const text = await readFile(join(SOURCE, page), 'utf8');
  const found = new Map<string, string>();
  for (const [, indent = '', title = '', code = ''] of text.matchAll(
    /^( *)```\w+ (\S+)\n([\s\S]*?)^ *```$/gm,
  )) {
    found.set(title, code.replaceAll(new RegExp(`^${indent}`, 'gm'), ''));
  }
  return found;
}

/** The commands `propusk …` of a block; the variables that it exports before them. */
export function commands(block: string): {
  settings: Record<string, string>;
  commands: string[][];
} {
  const lines = block.replaceAll('\\\n', ' ').trim().split('\n');
  const exported = lines
    .filter((line) => line.startsWith('export '))
    .map((line) => line.slice('export '.length).split('='));
  const run = lines.filter((line) => line.startsWith('propusk '));
  return {
    settings: Object.fromEntries(exported.map(([name, value]) => [name, value])),
    commands: run.map((line) =>
      [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!).slice(1),
    ),
  };
}
