const propusk = process.env.PROPUSK_URL ?? 'http://127.0.0.1:8080';

export default {
  rewrites: async () => [
    { source: '/api/v1/auth/:path*', destination: `${propusk}/api/v1/auth/:path*` },
  ],
};
