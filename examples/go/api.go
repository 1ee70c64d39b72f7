// The API of docs/quickstarts/go.md, usually a program of its own, and the route that calls it.

package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

// serveOrders adds GET /api/orders, which needs an access token for this API (RFC 9068), and
// GET /orders, which calls it with that of the user.
func serveOrders(provider *oidc.Provider) {
	target, err := url.Parse(api)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("GET /orders", &httputil.ReverseProxy{Rewrite: func(call *httputil.ProxyRequest) {
		call.SetURL(target)
		call.Out.Header.Del("Cookie")
		call.Out.Header.Set("Authorization", "Bearer "+get(call.In, "access_token"))
	}})

	accessTokens := provider.Verifier(&oidc.Config{ClientID: api}) // the audience is the API
	http.HandleFunc("GET /api/orders", func(w http.ResponseWriter, r *http.Request) {
		raw, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		token, err := accessTokens.Verify(r.Context(), raw) // signature, iss, aud, exp
		if err != nil || typ(raw) != "at+jwt" {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			http.Error(w, "invalid token", http.StatusUnauthorized)
			return
		}
		var claims struct{ Sub, Scope string }
		if token.Claims(&claims) != nil || !slices.Contains(strings.Fields(claims.Scope), "orders:read") {
			http.Error(w, "insufficient scope", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"user": %q, "orders": ["a lighthouse"]}`, claims.Sub)
	})
}

// typ distinguishes access tokens from ID tokens (RFC 9068 section 2.1); go-oidc does not read it.
func typ(token string) string {
	encoded, _, _ := strings.Cut(token, ".")
	decoded, _ := base64.RawURLEncoding.DecodeString(encoded)
	var header struct{ Typ string }
	_ = json.Unmarshal(decoded, &header)
	return header.Typ
}
