import { ErrorCode, type components } from './openapi.js';

export { ErrorCode };

/** A field of the request and what is wrong with it. */
export type Detail = components['schemas']['Detail'];

/** The code of the server, or one of this package's own: no usable answer was received. */
export type AnyErrorCode =
  keyof typeof ErrorCode | 'NETWORK_ERROR' | 'UNEXPECTED_RESPONSE' | (string & {});

/** What an error consists of. */
export interface ErrorFields {
  statusCode: number;
  errorCode: AnyErrorCode;
  message: string;
  details?: Detail[] | undefined;
  requestId?: string | undefined;
  /** Seconds, from `Retry-After`. */
  retryAfter?: number | undefined;
  cause?: unknown;
}

/** A request that failed. */
export class PropuskError extends Error {
  override readonly name = 'PropuskError';
  /** The HTTP status; 0 if there was no answer. */
  readonly statusCode: number;
  readonly errorCode: AnyErrorCode;
  /** The fields at fault. */
  readonly details: readonly Detail[];
  /** By which the server's log knows the request. */
  readonly requestId: string | undefined;
  /** Seconds to wait before a further attempt. */
  readonly retryAfter: number | undefined;

  constructor(fields: ErrorFields) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.statusCode = fields.statusCode;
    this.errorCode = fields.errorCode;
    this.details = fields.details ?? [];
    this.requestId = fields.requestId;
    this.retryAfter = fields.retryAfter;
  }

  /**
   * Whether the server could not decide: no answer, overload or an internal error. Says nothing
   * about the user, who must not be logged out because of it.
   */
  get isTemporary(): boolean {
    return (
      this.statusCode === 0 ||
      this.statusCode === 408 ||
      this.statusCode === 429 ||
      this.statusCode >= 500
    );
  }
}

/** The error of a token that is not valid. */
export function invalidToken(why: string, cause?: unknown): PropuskError {
  return new PropuskError({
    statusCode: 401,
    errorCode: ErrorCode.INVALID_TOKEN,
    message: why,
    cause,
  });
}

/** The error of a decision that cannot be made at present. */
export function unavailable(why: string, cause?: unknown): PropuskError {
  const errorCode = ErrorCode.SERVICE_UNAVAILABLE;
  return new PropuskError({ statusCode: 503, errorCode, message: why, retryAfter: 2, cause });
}
