"""gRPC: a client that protoc makes of the files in proto/ calls every method; another knows only what reflection tells."""

import importlib
import pathlib
import sys
import tempfile
import time

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

ADDRESS, PROTO, TOKEN, ANN, PASSWORD = sys.argv[1:6]
steps = 0


def held(what):
    global steps
    steps += 1
    print(f"{steps}. {what}", flush=True)


def generate(folder):
    """Makes Python of every file in proto/."""
    files = sorted(str(path) for path in pathlib.Path(PROTO).rglob("*.proto"))
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    command = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(command + files) == 0, "protoc takes every file"
    sys.path.insert(0, folder)
    # google.rpc is no package of ours alone: Python finds ours and what the libraries bring.
    import google

    google.__path__.append(f"{folder}/google")


class Notes(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Adds the token to each call and notes which methods were called."""

    def __init__(self):
        self.called = set()

    def details(self, details):
        self.called.add(details.method)
        metadata = list(details.metadata or []) + [("authorization", f"Bearer {TOKEN}")]
        return details._replace(metadata=metadata)

    def intercept_unary_unary(self, continuation, details, request):
        return continuation(self.details(details), request)

    def intercept_unary_stream(self, continuation, details, request):
        return continuation(self.details(details), request)

    def intercept_stream_stream(self, continuation, details, requests):
        return continuation(self.details(details), requests)


def refused(code, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error
    raise AssertionError(f"{code} was expected")


def story(channel, notes):
    token, user, revocation, auth = (
        importlib.import_module(f"{name}_pb2")
        for name in ("propusk.v1.token", "propusk.v1.user", "propusk.v1.revocation", "envoy.service.auth.v3.external_auth")
    )
    tokens, users, revocations, gateway = (
        getattr(importlib.import_module(f"{name}_pb2_grpc"), stub)(channel)
        for name, stub in (
            ("propusk.v1.token", "TokenServiceStub"),
            ("propusk.v1.user", "UserServiceStub"),
            ("propusk.v1.revocation", "RevocationServiceStub"),
            ("envoy.service.auth.v3.external_auth", "AuthorizationStub"),
        )
    )

    ann = users.Get(user.GetUserRequest(id=ANN))
    assert (ann.email, ann.role, ann.HasField("disabled_at")) == ("ann@example.org", "user", False), ann
    assert users.Find(user.FindUserRequest(username="ANN")) == ann
    assert users.Find(user.FindUserRequest(email="Ann@example.org")) == ann
    error = refused(grpc.StatusCode.NOT_FOUND, users.Get, user.GetUserRequest(id="nobody"))
    ids = dict(error.initial_metadata() or ()) | dict(error.trailing_metadata() or ())
    assert ids.get("x-request-id"), ids
    held("an account is read and found")

    eve = users.Create(user.CreateUserRequest(email="eve@example.org", username="eve", password=PASSWORD))
    refused(grpc.StatusCode.ALREADY_EXISTS, users.Create, user.CreateUserRequest(email="eve@example.org", password=PASSWORD))
    refused(grpc.StatusCode.INVALID_ARGUMENT, users.Create, user.CreateUserRequest(email="mallory", password="x"))
    assert users.Disable(user.DisableUserRequest(id=eve.id)).HasField("disabled_at")
    refused(grpc.StatusCode.FAILED_PRECONDITION, tokens.Issue, token.IssueRequest(user_id=eve.id))
    assert users.Enable(user.EnableUserRequest(id=eve.id)) == eve
    held("an account is made, disabled and enabled")

    stream = revocations.Watch(revocation.WatchRequest(), timeout=60)
    snapshot = next(stream).snapshot
    issued = tokens.Issue(token.IssueRequest(user_id=ANN, scope="api:read"))
    assert (issued.scope, issued.expires_in) == ("api:read", 900), issued
    told = tokens.Validate(token.ValidateRequest(token=issued.access_token))
    assert told.active and told.sub == ANN and told.scope == "api:read", told
    held("a session is opened for a person, and its token is good")

    refreshed = tokens.Refresh(token.RefreshRequest(refresh_token=issued.refresh_token))
    assert refreshed.refresh_token != issued.refresh_token
    refused(grpc.StatusCode.INVALID_ARGUMENT, tokens.Refresh, token.RefreshRequest(refresh_token="x"))
    held("the session goes on with a new refresh token")

    def check():
        attributes = auth.envoy_dot_service_dot_auth_dot_v3_dot_attribute__context__pb2.AttributeContext()
        http = attributes.request.http
        http.method, http.path, http.host, http.scheme = "GET", "/", "app.example.org", "https"
        http.headers["authorization"] = f"Bearer {refreshed.access_token}"
        attributes.context_extensions["scope"] = "api:read"
        return gateway.Check(auth.CheckRequest(attributes=attributes))

    answer = check()
    headers = {option.header.key: option.header.value for option in answer.ok_response.headers}
    assert answer.status.code == 0 and headers["x-propusk-user"] == ANN, answer
    held("a gateway lets the token through")

    began = time.monotonic()
    tokens.Revoke(token.RevokeRequest(token=refreshed.refresh_token))
    hit = []
    while not hit:
        delta = next(stream).delta
        hit = [entry for entry in delta.entries if entry.session == told.sid]
    took = time.monotonic() - began
    assert took < 1, f"the follower heard of it after {took} s"
    assert delta.to > snapshot.number
    assert not tokens.Validate(token.ValidateRequest(token=refreshed.access_token)).active
    answer = check()
    assert answer.status.code == grpc.StatusCode.UNAUTHENTICATED.value[0] and answer.denied_response.status.code == 401, answer
    stream.cancel()
    held("the session is revoked: by the next call, at the gateway, and for the follower within a second")

    users.Delete(user.DeleteUserRequest(id=eve.id))
    refused(grpc.StatusCode.NOT_FOUND, users.Delete, user.DeleteUserRequest(id=eve.id))
    held("an account is removed")


def by_reflection(channel, notes):
    """A client without any file of ours."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(database)
    methods = set()
    for service in database.get_services():
        described = pool.FindServiceByName(service)
        methods |= {f"/{service}/{method.name}" for method in described.methods}

    def call(service, method, **fields):
        described = pool.FindServiceByName(service).FindMethodByName(method)
        asked = message_factory.GetMessageClass(described.input_type)
        answered = message_factory.GetMessageClass(described.output_type)
        kind = channel.unary_stream if described.server_streaming else channel.unary_unary
        stub = kind(f"/{service}/{method}", request_serializer=asked.SerializeToString, response_deserializer=answered.FromString)
        return stub(asked(**fields), timeout=60)

    assert not call("propusk.v1.TokenService", "Validate", token="x").active
    assert call("grpc.health.v1.Health", "Check").status == 1
    health = call("grpc.health.v1.Health", "Watch")
    assert next(health).status == 1
    health.cancel()
    held("a client that knows only what reflection tells calls a method")

    stub = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    answer = next(stub(iter([reflection_pb2.ServerReflectionRequest(list_services="")])))
    assert len(answer.list_services_response.service) == len(database.get_services())
    held("both versions of reflection answer")
    assert notes.called == methods, notes.called ^ methods
    held(f"all {len(methods)} methods were called")


def main():
    with tempfile.TemporaryDirectory() as folder:
        generate(folder)
        with grpc.insecure_channel(ADDRESS) as plain:
            notes = Notes()
            channel = grpc.intercept_channel(plain, notes)
            story(channel, notes)
            by_reflection(channel, notes)
    print(f"all {steps} steps held")


main()
