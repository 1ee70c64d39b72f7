package com.example;

import java.util.List;
import java.util.Map;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.core.annotation.Order;
import org.springframework.security.config.Customizer;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.core.annotation.AuthenticationPrincipal;
import org.springframework.security.oauth2.core.DelegatingOAuth2TokenValidator;
import org.springframework.security.oauth2.jose.jws.SignatureAlgorithm;
import org.springframework.security.oauth2.jwt.*;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/**
 * The API of docs/quickstarts/spring-boot.md: usually a program of its own.
 *
 * <p>Propusk's access tokens have the header {@code typ: at+jwt} (RFC 9068 §2.1), by which an API
 * tells them from ID tokens. Spring's decoder accepts {@code typ: JWT} only and refuses them by
 * default ("the given typ value needs to be one of [JWT]"): {@code
 * spring.security.oauth2.resourceserver.jwt.issuer-uri} alone is not enough. Do not leave the type
 * unchecked: an ID token would pass as an access token. Do not leave {@code aud} unchecked: every
 * client's token for any other API would pass (RFC 9068 §4). Scopes become the authorities {@code
 * SCOPE_orders:read}.
 */
@Configuration
@RestController
public class OrdersApi {
  @GetMapping("/api/orders")
  Map<String, Object> orders(@AuthenticationPrincipal Jwt token) {
    return Map.of("user", token.getSubject(), "orders", List.of("a lighthouse"));
  }

  @Bean
  @Order(1)
  SecurityFilterChain api(HttpSecurity http) {
    return http
        .securityMatcher("/api/**")
        .authorizeHttpRequests(all -> all.anyRequest().hasAuthority("SCOPE_orders:read"))
        .oauth2ResourceServer(server -> server.jwt(Customizer.withDefaults()))
        .build();
  }

  @Bean
  JwtDecoder jwtDecoder(
      @Value("${spring.security.oauth2.client.provider.propusk.issuer-uri}") String issuer) {
    var decoder = NimbusJwtDecoder.withIssuerLocation(issuer)
        .jwsAlgorithms(all -> all.add(SignatureAlgorithm.ES256)) // tokens.signing_algorithm
        .validateType(false) // Nimbus' own check; JwtTypeValidator replaces it
        .build();
    decoder.setJwtValidator(new DelegatingOAuth2TokenValidator<>(
        new JwtTypeValidator("at+jwt"),
        new JwtTimestampValidator(),
        new JwtIssuerValidator(issuer),
        new JwtAudienceValidator(App.API)));
    return decoder;
  }
}
