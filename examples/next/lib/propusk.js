import { createPropusk } from '@propusk/client/server';

export const propusk = createPropusk({
  issuer: process.env.PROPUSK_URL ?? 'http://127.0.0.1:8080',
});
