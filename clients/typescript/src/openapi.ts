// Generated from openapi/propusk.yaml by scripts/generate.mjs: do not edit.

export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /**
         * @description A second factor that was added.
         * @example {
         *       "factor": {
         *         "id": "01a1fca5-0ae5-741a-b136-32b4b1af948e",
         *         "kind": "totp",
         *         "name": "Phone",
         *         "createdAt": "2026-11-21T04:22:00Z",
         *         "lastUsedAt": null
         *       }
         *     }
         */
        AddedFactor: {
            factor: components["schemas"]["SecondFactor"];
            /** @description Where it is the first factor: the recovery codes, shown once. */
            recoveryCodes?: string[];
        };
        /** @description The envelope of every successful response. */
        AddedFactorResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["AddedFactor"];
        };
        /**
         * @description A new email address.
         * @example {
         *       "email": "vera@example.com",
         *       "password": "seven blue herons at dawn"
         *     }
         */
        ChangeEmailRequest: {
            /** @description The new address. At most 254 characters. */
            email: string;
            /** @description The password of the account. */
            password: string;
        };
        /**
         * @description The confirmation of a new email address.
         * @example {
         *       "token": "jVb1y8V7mS8J3hOq0b1l9mXr3cQk1fJ7wq6n2pK5t0E"
         *     }
         */
        ConfirmEmailRequest: {
            /** @description The `token` of the link. */
            token: string;
            /** @description The password of the account, where there is no access token. */
            password?: string;
        };
        /** @description The confirmation of a passkey. */
        ConfirmPasskey: {
            passkeyToken: string;
            /** @description The answer of `navigator.credentials.create`, as `toJSON()` returns it. */
            credential: unknown;
            /** @description A name for it, at most 64 characters. */
            name?: string;
        };
        /**
         * @description The confirmation of a registration.
         * @example {
         *       "token": "jVb1y8V7mS8J3hOq0b1l9mXr3cQk1fJ7wq6n2pK5t0E",
         *       "password": "seven blue herons at dawn",
         *       "delivery": "body"
         *     }
         */
        ConfirmRegistrationRequest: {
            /** @description The `token` of the link. */
            token: string;
            /** @description The password of the registration. */
            password?: string;
            /** @description Another password, for the owner of the address who does not know that one. */
            newPassword?: string;
            /** @description How tokens are returned. Default: `body`. */
            delivery?: components["schemas"]["Delivery"];
        };
        /**
         * @description The confirmation of an authenticator app.
         * @example {
         *       "setupToken": "eyJlbmMiOiJBMjU2R0NNIiwia2lkIjoic2Vjb25k...",
         *       "code": "492039",
         *       "name": "Phone"
         *     }
         */
        ConfirmTotp: {
            setupToken: string;
            /** @description The code that the app shows. */
            code: string;
            /** @description A name for it, at most 64 characters. */
            name?: string;
        };
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
        ErrorCode: "VALIDATION_ERROR" | "MALFORMED_JSON" | "BAD_REQUEST" | "USER_CREATE_ERROR" | "INVALID_CREDENTIALS" | "MFA_REQUIRED" | "ACCOUNT_DELETION_PENDING" | "INVALID_MFA_TOKEN" | "INVALID_CODE" | "INVALID_PASSKEY" | "INVALID_TOKEN" | "INVALID_REFRESH_TOKEN" | "INVALID_CLIENT" | "INSUFFICIENT_SCOPE" | "INSUFFICIENT_USER_AUTHENTICATION" | "UNAUTHORIZED_CLIENT" | "REGISTRATION_DISABLED" | "INVITATION_REQUIRED" | "INVALID_INVITATION" | "MAIL_DISABLED" | "INVALID_EMAIL_TOKEN" | "CROSS_SITE_REQUEST" | "NOT_FOUND" | "MODULE_NOT_FOUND" | "MODULE_NOT_SELF_SERVICE" | "PRECONDITION_REQUIRED" | "PRECONDITION_FAILED" | "CONFLICT" | "IDEMPOTENCY_KEY_REUSED" | "SNAPSHOT_REQUIRED" | "METHOD_NOT_ALLOWED" | "REQUEST_TIMEOUT" | "EMAIL_ALREADY_EXISTS" | "USERNAME_ALREADY_EXISTS" | "PAYLOAD_TOO_LARGE" | "UNSUPPORTED_MEDIA_TYPE" | "TOO_MANY_REQUESTS" | "INTERNAL_ERROR" | "OVERLOADED" | "SERVICE_UNAVAILABLE" | "ACCOUNT_PENDING" | "SERVICE_FAILED" | "SERVICE_TIMEOUT" | "SERVICE_NOT_CONNECTED";
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
            /** @description With `MFA_REQUIRED` only. */
            mfa?: components["schemas"]["MfaChallenge"];
            /** @description With `ACCOUNT_DELETION_PENDING` only. */
            deletion?: components["schemas"]["PendingDeletion"];
            /** @description The `X-Request-Id` of this answer; the server's log and audit log know the request by it. */
            requestId: string;
        };
        /**
         * @description An identity of a user at another provider.
         * @example {
         *       "id": "01a1fca5-0ae5-741a-b136-32b4b1af948e",
         *       "provider": "acme",
         *       "issuer": "https://login.acme.example",
         *       "subject": "248289761001",
         *       "createdAt": "2026-11-21T04:22:00Z",
         *       "lastLoginAt": "2026-11-21T04:22:00Z"
         *     }
         */
        Identity: {
            id: string;
            /** @description The provider's name in the configuration; null where it is not configured any more. */
            provider: string | null;
            issuer: string;
            /** @description The `sub` of the provider's ID tokens. */
            subject: string;
            /** @description When it was linked (RFC 3339, UTC). */
            createdAt: string;
            /** @description When it was last used to log in (RFC 3339, UTC). */
            lastLoginAt: string | null;
        };
        /** @description The envelope of every successful response. */
        IdentityListResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["Identity"][];
        };
        /**
         * @description A provider at which users log in.
         * @example {
         *       "name": "acme",
         *       "displayName": "Acme",
         *       "startUrl": "/login/upstream/acme"
         *     }
         */
        LoginProvider: {
            name: string;
            /** @description The name to show, in English. */
            displayName: string;
            /**
             * @description Where the browser is sent to log in, a path of this server. With `return_to`, as the login
             *     page has it, it continues there.
             */
            startUrl: string;
        };
        /** @description The envelope of every successful response. */
        LoginProviderListResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["LoginProvider"][];
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
        /** @description What completes a login whose password was right. */
        MfaChallenge: {
            /** @description To be sent to `POST /api/v1/auth/login/mfa`. */
            mfaToken: string;
            /**
             * @description How the user can prove a second factor: `totp`, `passkey`, `recovery_code`. Later versions
             *     may add methods.
             */
            methods: string[];
            /**
             * @description Whether the user has no second factor and must set one up
             *     (`POST /api/v1/auth/login/mfa/setup`).
             */
            setupRequired: boolean;
            /**
             * Format: uint64
             * @description The lifetime of the token in seconds.
             */
            expiresIn: number;
        };
        /**
         * @description The second step of a login.
         * @example {
         *       "mfaToken": "eyJlbmMiOiJBMjU2R0NNIiwia2lkIjoic2Vjb25k...",
         *       "code": "492039",
         *       "delivery": "body"
         *     }
         */
        MfaLoginRequest: {
            /** @description From the answer to the first step. */
            mfaToken: string;
            /** @description The code of an authenticator app, or a recovery code; spaces and hyphens do not matter. */
            code?: string;
            /** @description Instead of a code: the token of a passkey's challenge. */
            passkeyToken?: string;
            /** @description With `passkeyToken`: the answer of `navigator.credentials.get`, as `toJSON()` returns it. */
            credential?: unknown;
            /** @description Where a factor is set up: its token. The code is the first one that the app shows. */
            setupToken?: string;
            /** @description Where a factor is set up: a name for it, at most 64 characters. */
            name?: string;
            /** @description How tokens are returned. Default: `body`. */
            delivery?: components["schemas"]["Delivery"];
        };
        /** @description Which login takes the next step. */
        MfaSetupRequest: {
            /** @description From the answer to the first step. */
            mfaToken: string;
        };
        /** @description A challenge for a passkey. */
        PasskeyChallenge: {
            /** @description To be sent with the browser's answer. */
            passkeyToken: string;
            /**
             * @description For `PublicKeyCredential.parseCreationOptionsFromJSON` or `parseRequestOptionsFromJSON`
             *     (WebAuthn level 3).
             */
            options: unknown;
        };
        /** @description The envelope of every successful response. */
        PasskeyChallengeResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["PasskeyChallenge"];
        };
        /** @description A login by a passkey. */
        PasskeyLoginRequest: {
            /** @description From `POST /api/v1/auth/login/passkey/options`. */
            passkeyToken: string;
            /** @description The answer of `navigator.credentials.get`, as `toJSON()` returns it. */
            credential: unknown;
            /** @description How tokens are returned. Default: `body`. */
            delivery?: components["schemas"]["Delivery"];
        };
        /** @description The deletion that a user has requested. */
        PendingDeletion: {
            /** @description When the account is deleted (RFC 3339, UTC). */
            deletionAt: string;
            /** @description To be sent to `DELETE /api/v1/account/deletion`, to keep the account. */
            cancelToken: string;
            /**
             * Format: uint64
             * @description The lifetime of the token in seconds.
             */
            expiresIn: number;
        };
        /**
         * @description Recovery codes, shown once.
         * @example {
         *       "recoveryCodes": [
         *         "7d3k-0hqa-mz4e-w8sv"
         *       ]
         *     }
         */
        RecoveryCodes: {
            recoveryCodes: string[];
        };
        /** @description The envelope of every successful response. */
        RecoveryCodesResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["RecoveryCodes"];
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
            /**
             * @description The token of an invitation, which `registration.mode = "invitation"` requires: the last part
             *     of its link.
             */
            invitation?: string;
            /**
             * @description The version of the terms that the user accepts, where there are any
             *     (`registration.terms.version`). The error names version and URL.
             */
            acceptedTerms?: string;
            /** @description How tokens are returned. Default: `body`. */
            delivery?: components["schemas"]["Delivery"];
        };
        /**
         * @description A browser in which a user is not asked for the second factor.
         * @example {
         *       "id": "01a1fca5-0ae5-741a-b136-32b4b1af948e",
         *       "browser": "Firefox",
         *       "system": "Linux",
         *       "createdAt": "2026-11-20T18:04:00Z",
         *       "lastUsedAt": "2026-11-21T09:30:00Z",
         *       "expiresAt": "2026-12-20T18:04:00Z"
         *     }
         */
        RememberedDevice: {
            id: string;
            /** @description The browser as it named itself; null if it is not a known one. */
            browser: string | null;
            /** @description The system as the browser named it. */
            system: string | null;
            /** @description When the user chose it (RFC 3339, UTC). */
            createdAt: string;
            /** @description When it last took the place of the second factor (RFC 3339, UTC). */
            lastUsedAt: string | null;
            /** @description When the second factor is asked for again (RFC 3339, UTC). */
            expiresAt: string;
        };
        /** @description The envelope of every successful response. */
        RememberedDeviceListResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["RememberedDevice"][];
        };
        /**
         * @description The address of an account.
         * @example {
         *       "email": "vera@example.org"
         *     }
         */
        RequestResetRequest: {
            /** @description The email address. At most 254 characters. */
            email: string;
        };
        /**
         * @description A new password.
         * @example {
         *       "token": "jVb1y8V7mS8J3hOq0b1l9mXr3cQk1fJ7wq6n2pK5t0E",
         *       "password": "seven blue herons at dawn"
         *     }
         */
        ResetPasswordRequest: {
            /** @description The `token` of the link. */
            token: string;
            /** @description The new password. At most 1024 bytes, without control characters. */
            password: string;
        };
        /**
         * @description A second factor.
         * @example {
         *       "id": "01a1fca5-0ae5-741a-b136-32b4b1af948e",
         *       "kind": "totp",
         *       "name": "Phone",
         *       "createdAt": "2026-11-21T04:22:00Z",
         *       "lastUsedAt": null
         *     }
         */
        SecondFactor: {
            id: string;
            /** @description `totp`, an authenticator app, or `passkey`. Later versions may add kinds. */
            kind: string;
            /** @description The name that the user gave it. */
            name: string;
            /** @description When it was added (RFC 3339, UTC). */
            createdAt: string;
            /** @description When it was last used to log in (RFC 3339, UTC); null if never. */
            lastUsedAt: string | null;
        };
        /**
         * @description What a user has beside the password.
         * @example {
         *       "factors": [
         *         {
         *           "id": "01a1fca5-0ae5-741a-b136-32b4b1af948e",
         *           "kind": "totp",
         *           "name": "Phone",
         *           "createdAt": "2026-11-21T04:22:00Z",
         *           "lastUsedAt": null
         *         }
         *       ],
         *       "recoveryCodes": 10,
         *       "required": false
         *     }
         */
        SecondFactors: {
            /** @description In order of creation. */
            factors: components["schemas"]["SecondFactor"][];
            /**
             * Format: uint64
             * @description The number of unused recovery codes.
             */
            recoveryCodes: number;
            /** @description Whether the role of the user requires a second factor. */
            required: boolean;
        };
        /** @description The envelope of every successful response. */
        SecondFactorsResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["SecondFactors"];
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
         *       "authenticatedAt": "2026-11-21T04:22:00Z",
         *       "acr": "urn:propusk:acr:mfa",
         *       "amr": [
         *         "pwd",
         *         "otp",
         *         "mfa"
         *       ],
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
            /** @description When the user logged in (RFC 3339, UTC); null if the token does not say. */
            authenticatedAt: string | null;
            /**
             * @description The class of the login: `urn:propusk:acr:password` or `urn:propusk:acr:mfa`; null if the
             *     token does not say.
             */
            acr: string | null;
            /** @description How the user has authenticated (RFC 8176). */
            amr: string[];
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
         * @description How a token is sent (RFC 6750, RFC 9449). `N_A` is in the response to a token exchange only: an ID-JAG is
         *     no access token (RFC 8693 §2.2.1).
         * @enum {string}
         */
        TokenType: "Bearer" | "DPoP" | "N_A";
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
            /**
             * @description The recovery codes of a second factor that was set up with this login, shown once; absent
             *     otherwise.
             */
            recoveryCodes?: string[];
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
         * @description An authenticator app to be set up.
         * @example {
         *       "setupToken": "eyJlbmMiOiJBMjU2R0NNIiwia2lkIjoic2Vjb25k...",
         *       "secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
         *       "uri": "otpauth://totp/id.example.org:vera%40example.org?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=id.example.org&algorithm=SHA1&digits=6&period=30",
         *       "qrCode": "<svg xmlns=\"http://www.w3.org/2000/svg\" ..."
         *     }
         */
        TotpSetup: {
            /** @description To be sent with the first code. */
            setupToken: string;
            /** @description The secret in Base32, for an app that cannot scan the QR code. */
            secret: string;
            /** @description What the QR code says: `otpauth://totp/…` with SHA-1, six digits and 30 seconds. */
            uri: string;
            /** @description The QR code as an SVG document. */
            qrCode: string;
        };
        /** @description The envelope of every successful response. */
        TotpSetupResponse: {
            /**
             * Format: uint16
             * @description The HTTP status code.
             */
            statusCode: number;
            /** @description What happened, in English. Not meant for parsing. */
            message: string;
            /** @description The result. */
            data: components["schemas"]["TotpSetup"];
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
        /**
         * @description What verifies an email address: `code`, or `token`.
         * @example {
         *       "code": "12345678"
         *     }
         */
        VerifyEmailRequest: {
            /** @description The eight digits in the mail, with an access token. */
            code?: string;
            /** @description The `token` of the link. */
            token?: string;
            /** @description With `token`: the password of the account, where there is no access token. */
            password?: string;
            /** @description With `token`: a new password, which ends all sessions. */
            newPassword?: string;
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
  MFA_REQUIRED: 'MFA_REQUIRED',
  ACCOUNT_DELETION_PENDING: 'ACCOUNT_DELETION_PENDING',
  INVALID_MFA_TOKEN: 'INVALID_MFA_TOKEN',
  INVALID_CODE: 'INVALID_CODE',
  INVALID_PASSKEY: 'INVALID_PASSKEY',
  INVALID_TOKEN: 'INVALID_TOKEN',
  INVALID_REFRESH_TOKEN: 'INVALID_REFRESH_TOKEN',
  INVALID_CLIENT: 'INVALID_CLIENT',
  INSUFFICIENT_SCOPE: 'INSUFFICIENT_SCOPE',
  INSUFFICIENT_USER_AUTHENTICATION: 'INSUFFICIENT_USER_AUTHENTICATION',
  UNAUTHORIZED_CLIENT: 'UNAUTHORIZED_CLIENT',
  REGISTRATION_DISABLED: 'REGISTRATION_DISABLED',
  INVITATION_REQUIRED: 'INVITATION_REQUIRED',
  INVALID_INVITATION: 'INVALID_INVITATION',
  MAIL_DISABLED: 'MAIL_DISABLED',
  INVALID_EMAIL_TOKEN: 'INVALID_EMAIL_TOKEN',
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
