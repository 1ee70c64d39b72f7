/** An event of a stream (WHATWG HTML §9.2). */
export interface ServerEvent {
  event: string;
  data: string;
}

/**
 * The events of a stream. Comments are dropped. `received` is called for every chunk and for the
 * end, before anything else, and ends it by an error; `applied` is called for every chunk after its
 * events.
 */
export async function* events(
  body: ReadableStream<Uint8Array>,
  received: () => void,
  applied: () => void,
): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let rest = '';
  let event = '';
  let data: string[] = [];
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      received();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const lines = rest.split('\n');
      rest = lines.pop() ?? '';
      for (const raw of lines) {
        const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
        if (line === '') {
          if (data.length > 0)
            yield { event: event === '' ? 'message' : event, data: data.join('\n') };
          event = '';
          data = [];
        } else if (line.startsWith('event:')) {
          event = line.slice('event:'.length).trimStart();
        } else if (line.startsWith('data:')) {
          data.push(line.slice('data:'.length).replace(/^ /, ''));
        }
      }
      applied();
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
