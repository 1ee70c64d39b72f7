// Writes src/openapi.ts, the types of the JSON API for logins, from the server's OpenAPI document:
//
//   node scripts/generate.mjs [openapi/propusk.yaml] [--check]
//
// Only the operations of the tag Authentication and what they refer to: a change elsewhere in the
// document changes nothing here. `--check` fails if the file is not current, and writes nothing.

import { readFileSync, writeFileSync } from 'node:fs';

import openapiTS, { astToString } from 'openapi-typescript';
import { parse } from 'yaml';

const arguments_ = process.argv.slice(2);
const check = arguments_.includes('--check');
const named = arguments_.find((argument) => argument !== '--check');
const source = named ?? new URL('../../../openapi/propusk.yaml', import.meta.url);
const output = new URL('../src/openapi.ts', import.meta.url);

const document = parse(readFileSync(source, 'utf8'));
const paths = {};
for (const [path, operations] of Object.entries(document.paths)) {
  const kept = Object.entries(operations).filter(([, one]) => one.tags?.includes('Authentication'));
  if (kept.length > 0) paths[path] = Object.fromEntries(kept);
}

const schemas = {};
function keep(value) {
  if (Array.isArray(value)) value.forEach(keep);
  else if (value !== null && typeof value === 'object') Object.values(value).forEach(keep);
  else if (typeof value === 'string' && value.startsWith('#/components/schemas/')) {
    const name = value.slice('#/components/schemas/'.length);
    if (name in schemas) return;
    schemas[name] = document.components.schemas[name];
    keep(schemas[name]);
  }
}
keep(paths);

const sorted = Object.fromEntries(Object.entries(schemas).sort(([a], [b]) => (a < b ? -1 : 1)));
const { openapi, info } = document;
const types = await openapiTS({ openapi, info, paths: {}, components: { schemas: sorted } });
const codes = sorted.ErrorCode.enum.map((code) => `  ${code}: '${code}',\n`).join('');
const text = `// Generated from openapi/propusk.yaml by scripts/generate.mjs: do not edit.

${astToString(types)}
/** What went wrong, for a program to tell apart. Later versions of the server may add codes. */
export const ErrorCode = {
${codes}} as const;
`;

if (!check) {
  writeFileSync(output, text);
} else if (readFileSync(output, 'utf8') !== text) {
  console.error('src/openapi.ts is stale: npm run generate');
  process.exitCode = 1;
}
