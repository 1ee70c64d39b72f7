// One server for all test files, with what they need.

import type { TestProject } from 'vitest/node';

import { Server } from './server.js';

declare module 'vitest' {
  export interface ProvidedContext {
    issuer: string;
    /** The secret of the client `gateway`. */
    secret: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await Server.start();
  const names = [
    '--name',
    'en=CRM',
    '--name',
    'ru=CRM',
    '--description',
    'en=CRM',
    '--description',
    'ru=CRM',
  ];
  await server.run('module', 'add', 'crm', ...names, '--scope', 'crm:read', '--self-service');
  project.provide('issuer', server.issuer);
  project.provide('secret', await server.addGateway('gateway'));
  return () => server.stop();
}
