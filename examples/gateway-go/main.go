// A gateway of one's own: every request is checked by Propusk over gRPC (Envoy's
// Authorization/Check) and then forwarded to one application. Propusk renews the browser's tokens
// meanwhile: the new cookies are in response_headers_to_add.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// gateway checks and forwards.
type gateway struct {
	issuer, clientID, clientSecret string
	propusk                        auth.AuthorizationClient
	application                    *httputil.ReverseProxy

	mutex sync.Mutex
	token string
	until time.Time
}

// ownToken is an access token of the gateway itself, renewed a minute before it expires.
func (g *gateway) ownToken() (string, error) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if time.Now().Before(g.until) {
		return g.token, nil
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"propusk:check"}}
	request, err := http.NewRequest("POST", g.issuer+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(g.clientID, g.clientSecret)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var tokens struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
		Error       string `json:"error_description"`
	}
	if err := json.NewDecoder(response.Body).Decode(&tokens); err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("no token: %s", tokens.Error)
	}
	g.token = tokens.AccessToken
	g.until = time.Now().Add(time.Duration(tokens.ExpiresIn-60) * time.Second)
	return g.token, nil
}

// check is Propusk's decision about a request. The requirements are those of docs/gateways.md, such
// as {"module": "crm"}.
func (g *gateway) check(
	request *http.Request,
	requirements map[string]string,
) (*auth.CheckResponse, error) {
	token, err := g.ownToken()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(request.Context(), time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	headers := map[string]string{}
	for name, values := range request.Header {
		separator := ", "
		if name == "Cookie" {
			separator = "; "
		}
		headers[strings.ToLower(name)] = strings.Join(values, separator)
	}
	address, _, err := net.SplitHostPort(request.RemoteAddr)
	if err != nil {
		return nil, err
	}
	socket := &core.SocketAddress{Address: address}
	return g.propusk.Check(ctx, &auth.CheckRequest{Attributes: &auth.AttributeContext{
		Source: &auth.AttributeContext_Peer{
			Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: socket}},
		},
		Request: &auth.AttributeContext_Request{Http: &auth.AttributeContext_HttpRequest{
			Method:  request.Method,
			Headers: headers,
			Path:    request.URL.RequestURI(),
			Host:    request.Host,
			Scheme:  "http",
		}},
		ContextExtensions: requirements,
	}})
}

func (g *gateway) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	answer, err := g.check(request, nil)
	if err == nil && answer.GetStatus() == nil {
		err = errors.New("an answer without a status")
	}
	if err != nil {
		// Nobody passes without a decision.
		log.Print(err)
		writer.Header().Set("Retry-After", "2")
		writer.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if answer.GetStatus().GetCode() != int32(codes.OK) {
		denied := answer.GetDeniedResponse()
		add(writer.Header(), denied.GetHeaders())
		writer.WriteHeader(int(denied.GetStatus().GetCode()))
		_, _ = writer.Write([]byte(denied.GetBody()))
		return
	}
	// Renewed cookies, even of an error: a refresh token can be used once. The proxy adds the
	// application's own headers to these.
	add(writer.Header(), answer.GetOkResponse().GetResponseHeadersToAdd())
	for name := range request.Header {
		if strings.HasPrefix(strings.ReplaceAll(strings.ToLower(name), "_", "-"), "x-propusk-") {
			delete(request.Header, name)
		}
	}
	withoutOwnCookies(request)
	for _, option := range answer.GetOkResponse().GetHeaders() {
		request.Header.Set(option.GetHeader().GetKey(), option.GetHeader().GetValue())
	}
	g.application.ServeHTTP(writer, request)
}

func add(to http.Header, options []*core.HeaderValueOption) {
	for _, option := range options {
		to.Add(option.GetHeader().GetKey(), option.GetHeader().GetValue())
	}
}

// withoutOwnCookies keeps Propusk's cookies from the application.
func withoutOwnCookies(request *http.Request) {
	var kept []string
	for _, line := range request.Header.Values("Cookie") {
		for _, pair := range strings.Split(line, ";") {
			pair = strings.TrimSpace(pair)
			name := strings.TrimPrefix(strings.TrimPrefix(pair, "__Host-"), "__Secure-")
			if pair != "" && !strings.HasPrefix(name, "propusk_") {
				kept = append(kept, pair)
			}
		}
	}
	request.Header.Del("Cookie")
	if len(kept) > 0 {
		request.Header.Set("Cookie", strings.Join(kept, "; "))
	}
}

func main() {
	// Beyond loopback use TLS, and a client certificate instead of the token: see docs/grpc.md.
	channel, err := grpc.NewClient(
		env("PROPUSK_GRPC", "127.0.0.1:50051"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		log.Fatal(err)
	}
	application, err := url.Parse(env("APPLICATION", "http://127.0.0.1:3000"))
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", env("LISTEN", "127.0.0.1:9000"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	log.Fatal(http.Serve(listener, &gateway{
		issuer:       env("PROPUSK", "http://127.0.0.1:8080"),
		clientID:     env("CLIENT_ID", "gateway"), // a client with the scope propusk:check
		clientSecret: os.Getenv("CLIENT_SECRET"),
		propusk:      auth.NewAuthorizationClient(channel),
		application: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(application)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		}},
	}))
}
