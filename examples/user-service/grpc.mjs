// The same user service by gRPC: Propusk calls it at the registration.
//
// LISTEN and PROTO say where; REFUSED_DOMAIN is the domain of the email addresses that get no
// profile. Prints one line of JSON per decision.
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const {
  LISTEN = '127.0.0.1:50061',
  PROTO = new URL('../../proto', import.meta.url).pathname,
  REFUSED_DOMAIN = 'refused.example',
} = process.env;

const definition = loader.loadSync('propusk/provisioning/v1/user.proto', { includeDirs: [PROTO] });
const { UserProvisioning } = grpc.loadPackageDefinition(definition).propusk.provisioning.v1;
// A database, in a real service.
const profiles = new Map();
const deleted = new Set();
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const missing = { code: grpc.status.NOT_FOUND, details: 'there is no such profile' };

const service = {
  createUser({ request: user }, reply) {
    // A call whose deadline has passed may arrive after deleteUser.
    if (deleted.has(user.id)) {
      reply({ code: grpc.status.FAILED_PRECONDITION, details: 'deleted' });
      return;
    }
    if (user.email.endsWith(`@${REFUSED_DOMAIN}`)) {
      print({ refused: user.id });
      reply({ code: grpc.status.FAILED_PRECONDITION, details: 'email domain refused' });
      return;
    }
    // Calls may be repeated: creating a profile again changes nothing.
    if (!profiles.has(user.id)) {
      profiles.set(user.id, { username: user.username, email: user.email });
      print({ created: user.id, profile: profiles.get(user.id) });
    }
    reply(null, { profileId: user.id });
  },
  getUser({ request: { id } }, reply) {
    profiles.has(id) ? reply(null, { id, profileId: id }) : reply(missing);
  },
  deleteUser({ request: { id } }, reply) {
    deleted.add(id);
    if (!profiles.delete(id)) {
      reply(missing);
      return;
    }
    print({ deleted: id });
    reply(null, {});
  },
};

const server = new grpc.Server();
server.addService(UserProvisioning.service, service);
server.bindAsync(LISTEN, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  print({ listening: LISTEN });
});
