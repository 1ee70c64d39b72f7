// Generated from openapi/propusk.yaml by scripts/generate.mjs: do not edit.

export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /**
         * @description How tokens are returned.
         * @enum {string}
         */
        Delivery: "body" | "cookie";
        /** @description A field and what is wrong with it. */
        Detail: {
            /** @description The field's name in the request. */
            field: string;
            /** @description What is wrong with it, as a sentence. */
            message: string;
        };
        /** @description An empty object. */
        Empty: Record<string, never>;
        /** @description The envelope of every successful response. */
        EmptyResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["Empty"];
        };
        /**
         * @description What went wrong, for a program to tell apart. Later versions may add codes.
         * @enum {string}
         */
        ErrorCode: "VALIDATION_ERROR" | "MALFORMED_JSON" | "BAD_REQUEST" | "USER_CREATE_ERROR" | "INVALID_CREDENTIALS" | "INVALID_TOKEN" | "INVALID_REFRESH_TOKEN" | "INVALID_CLIENT" | "INSUFFICIENT_SCOPE" | "INSUFFICIENT_USER_AUTHENTICATION" | "UNAUTHORIZED_CLIENT" | "REGISTRATION_DISABLED" | "CROSS_SITE_REQUEST" | "NOT_FOUND" | "MODULE_NOT_FOUND" | "MODULE_NOT_SELF_SERVICE" | "PRECONDITION_REQUIRED" | "PRECONDITION_FAILED" | "CONFLICT" | "IDEMPOTENCY_KEY_REUSED" | "SNAPSHOT_REQUIRED" | "METHOD_NOT_ALLOWED" | "REQUEST_TIMEOUT" | "EMAIL_ALREADY_EXISTS" | "USERNAME_ALREADY_EXISTS" | "PAYLOAD_TOO_LARGE" | "UNSUPPORTED_MEDIA_TYPE" | "TOO_MANY_REQUESTS" | "INTERNAL_ERROR" | "OVERLOADED" | "SERVICE_UNAVAILABLE" | "ACCOUNT_PENDING" | "SERVICE_FAILED" | "SERVICE_TIMEOUT" | "SERVICE_NOT_CONNECTED";
        /**
         * @description The envelope of every error.
         * @example {
         *       "statusCode": 400,
         *       "message": "password: Use at least 8 characters.",
         *       "errorCode": "VALIDATION_ERROR",
         *       "details": [
         *         {
         *           "field": "password",
         *           "message": "Use at least 8 characters."
         *         }
         *       ],
         *       "requestId": "01a1fca5-0ae5-741a-b136-32b4b1af948c"
         *     }
         */
        ErrorResponse: {
            /**
             * Format: uint16
             * @description The HTTP status again.
             */
            statusCode: number;
            /** @description What went wrong and what to do, human-readable. */
            message: string;
            /** @description What went wrong, for a program. */
            errorCode: components["schemas"]["ErrorCode"];
            /** @description The fields at fault, where fields are. */
            details?: components["schemas"]["Detail"][];
            /** @description The `X-Request-Id` of this answer; the server's log and audit log know the request by it. */
            requestId: string;
        };
        /**
         * @description Login credentials: a password and at least one of `login`, `email` and `username`.
         * @example {
         *       "login": "vera@example.org",
         *       "password": "seven blue herons at dawn",
         *       "delivery": "body"
         *     }
         */
        LoginRequest: {
            /** @description The email address or the username. Empty counts as absent. */
            login?: string;
            /** @description As `login`. Where several of the three are sent, all must be of one account. */
            email?: string;
            /** @description As `email`. */
            username?: string;
            /** @description The password. */
            password: string;
            /** @description How tokens are returned. Default: `body`. */
            delivery?: components["schemas"]["Delivery"];
        };
        /** @description A logout request. The session is identified by the access token or the refresh token. */
        LogoutRequest: {
            /**
             * @description The refresh token. Required if the access token has expired and there is no refresh token
             *     cookie.
             */
            refreshToken?: string;
        };
        /** @description A refresh request. */
        RefreshRequest: {
            /** @description The refresh token. Default: the refresh token cookie. */
            refreshToken?: string;
            /** @description How tokens are returned. Default: the same way as the refresh token was sent. */
            delivery?: components["schemas"]["Delivery"];
        };
        /**
         * @description A registration.
         * @example {
         *       "email": "vera@example.org",
         *       "username": "vera",
         *       "password": "seven blue herons at dawn",
         *       "delivery": "body"
         *     }
         */
        RegisterRequest: {
            /** @description The email address to log in with; not case-sensitive. At most 254 characters. */
            email: string;
            /**
             * @description An alternative login: 3 to 32 letters, digits, dots, hyphens and underscores; not
             *     case-sensitive.
             */
            username?: string;
            /** @description At most 1024 bytes, without control characters. The error names the rule that a weak password violates. */
            password: string;
            /** @description How tokens are returned. Default: `body`. */
            delivery?: components["schemas"]["Delivery"];
        };
        /**
         * @description The current session.
         * @example {
         *       "userId": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
         *       "email": "vera@example.org",
         *       "username": "vera",
         *       "role": "user",
         *       "scopes": [
         *         "openid",
         *         "profile",
         *         "email"
         *       ],
         *       "modules": [],
         *       "expiresAt": "2026-11-21T04:37:00Z"
         *     }
         */
        Session: {
            /** @description The id of the user. */
            userId: string;
            /** @description The email address. */
            email: string;
            /** @description The username; null if there is none. */
            username: string | null;
            /** @description `user`, `admin` or a custom role. */
            role: string;
            /** @description The scopes of the access token. */
            scopes: string[];
            /** @description The modules granted to the user. */
            modules: string[];
            /** @description When the access token expires (RFC 3339, UTC). */
            expiresAt: string;
        };
        /** @description The envelope of every successful response. */
        SessionResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["Session"] | null;
        };
        /**
         * @description How a token is sent (RFC 6750). `N_A` is in the response to a token exchange only: an ID-JAG is
         *     no access token (RFC 8693 §2.2.1).
         * @enum {string}
         */
        TokenType: "Bearer" | "N_A";
        /**
         * @description The tokens and the user of a session.
         * @example {
         *       "accessToken": "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ii4uLiJ9...",
         *       "refreshToken": "prt_AAAAAgGh_KUK5XuAn9Chtx63QPtH...",
         *       "tokenType": "Bearer",
         *       "expiresIn": 900,
         *       "refreshExpiresIn": 604800,
         *       "user": {
         *         "id": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
         *         "email": "vera@example.org",
         *         "username": "vera",
         *         "role": "user",
         *         "isVerified": false,
         *         "createdAt": "2026-11-21T04:22:00Z"
         *       }
         *     }
         */
        Tokens: {
            /**
             * @description The access token, a JWT (RFC 9068), to be sent as `Authorization: Bearer …`. Absent with
             *     `delivery: cookie`.
             */
            accessToken?: string;
            /** @description The refresh token, valid for one refresh. Absent with `delivery: cookie`. */
            refreshToken?: string;
            /** @description Always `Bearer`. */
            tokenType: components["schemas"]["TokenType"];
            /**
             * Format: uint64
             * @description The lifetime of the access token in seconds.
             */
            expiresIn: number;
            /**
             * Format: uint64
             * @description The lifetime of the refresh token in seconds, unless it is used earlier.
             */
            refreshExpiresIn: number;
            /** @description The user of the session. */
            user: components["schemas"]["User"];
        };
        /** @description The envelope of every successful response. */
        TokensResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["Tokens"];
        };
        /**
         * @description A user.
         * @example {
         *       "id": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
         *       "email": "vera@example.org",
         *       "username": "vera",
         *       "role": "user",
         *       "isVerified": false,
         *       "createdAt": "2026-11-21T04:22:00Z"
         *     }
         */
        User: {
            /** @description The id of the user, the `sub` of their tokens. */
            id: string;
            /** @description The email address. */
            email: string;
            /** @description The username; null if there is none. */
            username: string | null;
            /** @description `user`, `admin` or a custom role. */
            role: string;
            /** @description Whether the email address is verified. */
            isVerified: boolean;
            /** @description When the account was created (RFC 3339, UTC). */
            createdAt: string;
        };
        /**
         * @description A valid access token.
         * @example {
         *       "user": {
         *         "id": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
         *         "email": "vera@example.org",
         *         "role": "user"
         *       },
         *       "clientId": "propusk",
         *       "sessionId": "01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7",
         *       "scope": "openid profile email",
         *       "expiresAt": "2026-11-21T04:37:00Z"
         *     }
         */
        Verified: {
            /** @description The subject of the token. */
            user: components["schemas"]["VerifiedUser"];
            /** @description The client it was issued to. */
            clientId: string;
            /** @description The id of the session; null for a client credentials token. */
            sessionId: string | null;
            /** @description The scope, space-separated. */
            scope: string;
            /** @description When the token expires (RFC 3339, UTC). */
            expiresAt: string;
        };
        /** @description The envelope of every successful response. */
        VerifiedResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["Verified"];
        };
        /** @description The subject of a token. */
        VerifiedUser: {
            /** @description The `sub`. */
            id: string;
            /** @description The email address at the time of issue; null for a client credentials token. */
            email: string | null;
            /** @description The role at the time of issue; null for a client credentials token. */
            role: string | null;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;

/** What went wrong, for a program to tell apart. Later versions of the server may add codes. */
export const ErrorCode = {
  VALIDATION_ERROR: 'VALIDATION_ERROR',
  MALFORMED_JSON: 'MALFORMED_JSON',
  BAD_REQUEST: 'BAD_REQUEST',
  USER_CREATE_ERROR: 'USER_CREATE_ERROR',
  INVALID_CREDENTIALS: 'INVALID_CREDENTIALS',
  INVALID_TOKEN: 'INVALID_TOKEN',
  INVALID_REFRESH_TOKEN: 'INVALID_REFRESH_TOKEN',
  INVALID_CLIENT: 'INVALID_CLIENT',
  INSUFFICIENT_SCOPE: 'INSUFFICIENT_SCOPE',
  INSUFFICIENT_USER_AUTHENTICATION: 'INSUFFICIENT_USER_AUTHENTICATION',
  UNAUTHORIZED_CLIENT: 'UNAUTHORIZED_CLIENT',
  REGISTRATION_DISABLED: 'REGISTRATION_DISABLED',
  CROSS_SITE_REQUEST: 'CROSS_SITE_REQUEST',
  NOT_FOUND: 'NOT_FOUND',
  MODULE_NOT_FOUND: 'MODULE_NOT_FOUND',
  MODULE_NOT_SELF_SERVICE: 'MODULE_NOT_SELF_SERVICE',
  PRECONDITION_REQUIRED: 'PRECONDITION_REQUIRED',
  PRECONDITION_FAILED: 'PRECONDITION_FAILED',
  CONFLICT: 'CONFLICT',
  IDEMPOTENCY_KEY_REUSED: 'IDEMPOTENCY_KEY_REUSED',
  SNAPSHOT_REQUIRED: 'SNAPSHOT_REQUIRED',
  METHOD_NOT_ALLOWED: 'METHOD_NOT_ALLOWED',
  REQUEST_TIMEOUT: 'REQUEST_TIMEOUT',
  EMAIL_ALREADY_EXISTS: 'EMAIL_ALREADY_EXISTS',
  USERNAME_ALREADY_EXISTS: 'USERNAME_ALREADY_EXISTS',
  PAYLOAD_TOO_LARGE: 'PAYLOAD_TOO_LARGE',
  UNSUPPORTED_MEDIA_TYPE: 'UNSUPPORTED_MEDIA_TYPE',
  TOO_MANY_REQUESTS: 'TOO_MANY_REQUESTS',
  INTERNAL_ERROR: 'INTERNAL_ERROR',
  OVERLOADED: 'OVERLOADED',
  SERVICE_UNAVAILABLE: 'SERVICE_UNAVAILABLE',
  ACCOUNT_PENDING: 'ACCOUNT_PENDING',
  SERVICE_FAILED: 'SERVICE_FAILED',
  SERVICE_TIMEOUT: 'SERVICE_TIMEOUT',
  SERVICE_NOT_CONNECTED: 'SERVICE_NOT_CONNECTED',
} as const;
