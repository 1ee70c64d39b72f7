import {
  chain,
  toNext,
  withPrivateRoutes,
  withRefresh,
  withRequestId,
  withSession,
} from '@propusk/client/middleware';
import { NextResponse } from 'next/server';

import { propusk } from './lib/propusk.js';

export const proxy = toNext(
  NextResponse,
  propusk,
  chain([
    withRequestId,
    withSession,
    withPrivateRoutes({ match: '/account', loginUrl: '/login' }),
    withPrivateRoutes({ match: '/crm', loginUrl: '/login', modules: ['crm'] }),
    withRefresh,
  ]),
);

export const config = { matcher: '/((?!api/v1/auth/|_next/static|_next/image).*)' };
