// A consumer and producer for tests/it/events, by kafkajs.
//
//   kafka.mjs consume BROKER TOPIC…     one line of JSON per message, from the beginning
//   kafka.mjs produce BROKER            lines of JSON on standard input; "sent" for each message
//   kafka.mjs topic BROKER NAME CONFIG  creates a topic; CONFIG is JSON: { "name": "value" }
import { createInterface } from 'node:readline';
import kafkajs from 'kafkajs';
import lz4 from 'lz4js';

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs;
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
});

const [command, broker, ...rest] = process.argv.slice(2);
const retry = { retries: 100, maxRetryTime: 500 };
const kafka = new Kafka({ clientId: 'test', brokers: [broker], logLevel: logLevel.NOTHING, retry });
const text = (bytes) => (bytes === null || bytes === undefined ? null : bytes.toString());
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

// The test has ended.
process.stdin.on('close', () => process.exit(0));
process.stdin.on('end', () => process.exit(0));

if (command === 'consume') {
  process.stdin.resume();
  const admin = kafka.admin();
  await admin.connect();
  for (;;) {
    const known = await admin.listTopics();
    if (rest.every((topic) => known.includes(topic))) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await admin.disconnect();
  const groupId = `${rest[0]}.reader.${process.pid}`;
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 100 });
  await consumer.connect();
  await consumer.subscribe({ topics: rest, fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ topic, partition, message }) => {
      const headers = Object.entries(message.headers ?? {});
      print({
        topic,
        partition,
        offset: Number(message.offset),
        key: text(message.key),
        headers: Object.fromEntries(headers.map(([name, value]) => [name, text(value)])),
        value: text(message.value),
      });
    },
  });
} else if (command === 'produce') {
  const producer = kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
  await producer.connect();
  for await (const line of createInterface({ input: process.stdin })) {
    const { topic, key, headers, value } = JSON.parse(line);
    await producer.send({ topic, acks: -1, messages: [{ key, headers, value }] });
    print('sent');
  }
} else if (command === 'topic') {
  const admin = kafka.admin();
  await admin.connect();
  const config = Object.entries(JSON.parse(rest[1]));
  const configEntries = config.map(([name, value]) => ({ name, value }));
  await admin.createTopics({ topics: [{ topic: rest[0], configEntries }], waitForLeaders: true });
  await admin.disconnect();
  print('created');
  process.exit(0);
}
