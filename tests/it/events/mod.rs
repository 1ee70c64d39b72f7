//! Events on Kafka: a real broker, and kafkajs as the consumer.

mod provisioning;
mod relay;
