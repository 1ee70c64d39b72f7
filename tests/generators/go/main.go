// A first-party application with the client that oapi-codegen makes.
//
//	client BASE_URL ADMIN_LOGIN PASSWORD
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"propusk.example/client/propusk"
)

func check(holds bool, what string) {
	if !holds {
		fmt.Println("failed:", what)
		os.Exit(1)
	}
	fmt.Println("ok:", what)
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	return value
}

func bearer(token *string) propusk.RequestEditorFn {
	return func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+*token)
		return nil
	}
}

func main() {
	base, admin, password := os.Args[1], os.Args[2], os.Args[3]
	ctx := context.Background()
	client := must(propusk.NewClientWithResponses(base))

	email, username := "go@example.org", "gopher"
	registered := must(client.RegisterWithResponse(ctx, propusk.RegisterRequest{
		Email: email, Username: &username, Password: password,
	}))
	check(registered.JSON201 != nil && registered.JSON201.Data.User.Email == email, "register")

	login := func(login, password string) *propusk.LoginResponse {
		return must(client.LoginWithResponse(ctx, propusk.LoginRequest{Login: &login, Password: password}))
	}
	refused := login(email, "wrong")
	check(
		refused.JSON401 != nil && refused.JSON401.ErrorCode == propusk.INVALIDCREDENTIALS,
		"a wrong password is refused",
	)

	loggedIn := login(email, password)
	check(loggedIn.JSON200 != nil && loggedIn.JSON200.Data.TokenType == propusk.Bearer, "log in")
	tokens := loggedIn.JSON200.Data
	refreshed := must(client.RefreshWithResponse(ctx, propusk.RefreshRequest{RefreshToken: tokens.RefreshToken}))
	check(
		refreshed.JSON200 != nil && *refreshed.JSON200.Data.RefreshToken != *tokens.RefreshToken,
		"refresh",
	)

	session := must(client.GetSessionWithResponse(ctx, bearer(refreshed.JSON200.Data.AccessToken)))
	check(session.JSON200 != nil && *session.JSON200.Data.Username == username, "get the session")

	administrator := login(admin, password).JSON200.Data.AccessToken
	emails := map[string]bool{}
	limit := 1
	params := propusk.AdminListUsersParams{Limit: &limit}
	for {
		page := must(client.AdminListUsersWithResponse(ctx, &params, bearer(administrator)))
		check(page.JSON200 != nil, "list a page of users")
		for _, user := range page.JSON200.Data.Items {
			emails[user.Email] = true
		}
		if page.JSON200.Data.NextCursor == nil {
			break
		}
		params.Cursor = page.JSON200.Data.NextCursor
	}
	check(len(emails) == 2 && emails[email], "every user is listed")
}
