// A user service: a profile for each account, and a refusal for those it does not want.
//
// KAFKA_BROKER, TOPIC_CREATE, TOPIC_CLOSE, TOPIC_DONE and GROUP say where; REFUSED_DOMAIN is the
// domain of the email addresses that get no profile. Prints one line of JSON per decision.
import { setTimeout } from 'node:timers/promises';
import kafkajs from 'kafkajs';
import lz4 from 'lz4js';

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs;
// kafkajs reads gzip by itself, and lz4 with a codec.
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
});

const {
  KAFKA_BROKER = '127.0.0.1:9092',
  TOPIC_CREATE = 'user.create',
  TOPIC_CLOSE = 'user.create.close',
  // For a server with user_service.on_deadline = "compensate": user.create.done
  TOPIC_DONE = '',
  GROUP = 'user-service',
  REFUSED_DOMAIN = 'refused.example',
} = process.env;

const kafka = new Kafka({
  clientId: 'user-service',
  brokers: [KAFKA_BROKER],
  logLevel: logLevel.ERROR,
});
const consumer = kafka.consumer({ groupId: GROUP });
const producer = kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
// A database, in a real service.
const profiles = new Map();
const deleted = new Set();
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// The server, which may have to create the topics, may start later.
const admin = kafka.admin();
await admin.connect();
while (!(await admin.listTopics()).includes(TOPIC_CREATE)) await setTimeout(500);
await admin.disconnect();

async function confirm(id, { sagaId }) {
  if (TOPIC_DONE === '') return;
  const value = JSON.stringify({ id, sagaId });
  await producer.send({ topic: TOPIC_DONE, acks: -1, messages: [{ key: id, value }] });
}

await producer.connect();
await consumer.connect();
await consumer.subscribe({ topic: TOPIC_CREATE, fromBeginning: true });
await consumer.run({
  eachMessage: async ({ message }) => {
    const id = message.key.toString();
    if (message.value === null) {
      // The account was deleted.
      deleted.add(id);
      if (profiles.delete(id)) print({ deleted: id });
      return;
    }
    const user = JSON.parse(message.value);
    // Messages may come twice, also after the deletion; the names of a deleted user are null.
    if (deleted.has(id) || user.email === null) return;
    if (profiles.has(id)) {
      // The confirmation may not have been sent before a crash.
      await confirm(id, user);
      return;
    }
    if (user.email.endsWith(`@${REFUSED_DOMAIN}`)) {
      const { sagaId, correlationId } = user;
      const value = JSON.stringify({ id, sagaId, correlationId, reason: 'email domain refused' });
      await producer.send({ topic: TOPIC_CLOSE, acks: -1, messages: [{ key: id, value }] });
      print({ refused: id });
      return;
    }
    profiles.set(id, { username: user.username, email: user.email, since: user.createdAt });
    await confirm(id, user);
    print({ created: id, profile: profiles.get(id) });
  },
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await consumer.disconnect();
    await producer.disconnect();
    process.exit(0);
  });
}
