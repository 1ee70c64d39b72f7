"""A first-party application with the client that openapi-python-client makes.

python client.py BASE_URL ADMIN_LOGIN PASSWORD
"""

import importlib
import pkgutil
import sys

import propusk_client
from propusk_client import AuthenticatedClient, Client
from propusk_client.api.administration import admin_list_users
from propusk_client.api.authentication import get_session, login, refresh, register
from propusk_client.models import (
    ErrorCode,
    ErrorResponse,
    LoginRequest,
    RefreshRequest,
    RegisterRequest,
    SessionResponse,
    TokensResponse,
    TokenType,
    UserDetailsPageResponse,
)
from propusk_client.types import UNSET

base, admin, password = sys.argv[1:]


def check(holds, what):
    if not holds:
        sys.exit(f"failed: {what}")
    print(f"ok: {what}")


# Python compiles a module when it is imported.
for module in pkgutil.walk_packages(propusk_client.__path__, "propusk_client."):
    importlib.import_module(module.name)

client = Client(base_url=base)
email = "python@example.org"
registration = RegisterRequest(email=email, username="python", password=password)
registered = register.sync(client=client, body=registration)
check(isinstance(registered, TokensResponse) and registered.data.user.email == email, "register")

refused = login.sync(client=client, body=LoginRequest(login=email, password="wrong"))
check(
    isinstance(refused, ErrorResponse) and refused.error_code == ErrorCode.INVALID_CREDENTIALS,
    "a wrong password is refused",
)

logged_in = login.sync(client=client, body=LoginRequest(login=email, password=password))
check(
    isinstance(logged_in, TokensResponse) and logged_in.data.token_type == TokenType.BEARER,
    "log in",
)
tokens = logged_in.data
fresh = refresh.sync(client=client, body=RefreshRequest(refresh_token=tokens.refresh_token))
check(
    isinstance(fresh, TokensResponse) and fresh.data.refresh_token != tokens.refresh_token,
    "refresh",
)

user = AuthenticatedClient(base_url=base, token=fresh.data.access_token)
session = get_session.sync(client=user)
check(
    isinstance(session, SessionResponse) and session.data.username == "python", "get the session"
)

administrator = login.sync(client=client, body=LoginRequest(login=admin, password=password))
operator = AuthenticatedClient(base_url=base, token=administrator.data.access_token)
emails, cursor = [], UNSET
while cursor is not None:
    page = admin_list_users.sync(client=operator, limit=1, cursor=cursor)
    check(isinstance(page, UserDetailsPageResponse), "list a page of users")
    emails += [user.email for user in page.data.items]
    cursor = page.data.next_cursor
check(len(emails) == 2 and email in emails, "every user is listed")
