// Measures each entry point as an application bundles it, minified and compressed, and fails if one
// is larger than the README allows. Without react, which the application has anyway.

import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const rows = [...readme.matchAll(/^\| `@propusk\/client\/(\w+)` \|.*\| ([\d.]+) kB \|$/gm)];
const { exports } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
const entries = Object.keys(exports).filter((name) => name !== './package.json');
if (rows.length !== entries.length)
  throw new Error(`the README has budgets for ${rows.length} of ${entries.length} entry points`);

for (const [, name, budget] of rows) {
  const { outputFiles } = await build({
    entryPoints: [new URL(`../dist/${name}.js`, import.meta.url).pathname],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    external: ['react'],
  });
  const size = gzipSync(outputFiles[0].contents, { level: 9 }).length / 1000;
  const isOver = size > Number(budget);
  const verdict = isOver ? ': too large' : '';
  console.log(`${name.padEnd(12)} ${size.toFixed(1).padStart(6)} kB of ${budget} kB${verdict}`);
  if (isOver) process.exitCode = 1;
}
