/**
 * A certificate for `dns.test` and 127.0.0.1 that signs itself, valid for a century. Made with
 *
 *     openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 \\
 *       -subj /CN=dns.test -addext subjectAltName=DNS:dns.test,IP:127.0.0.1
 *
 * The key protects nothing.
 * @module
 */

/** As PEM. */
export const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBlzCCAT6gAwIBAgIUXYGxe4LfzTorNFbWZyUdKmgRSOUwCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIZG5zLnRlc3QwIBcNMjYxMTIxMDYwNDEwWhgPMjEyNjEwMjgw
NjA0MTBaMBMxETAPBgNVBAMMCGRucy50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEq/75FwGtbdPS237o4kIcS41SXowvvp3gEhHk7ufgC9Z0C4NkfCo7TZCs
TPgZY/TABRlMi11j3igKyF7e46LqPqNuMGwwHQYDVR0OBBYEFF2F9O5SdUvU9k9r
Y7QW1aia1uqoMB8GA1UdIwQYMBaAFF2F9O5SdUvU9k9rY7QW1aia1uqoMBkGA1Ud
EQQSMBCCCGRucy50ZXN0hwR/AAABMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0E
AwIDRwAwRAIgKEfk9gKb6+CGDkY9u20qbqJK7T1Vk7Xa6gj5TnTGXzkCIH5sOeCx
LjaSq/GeSQf+KxYaQZZYUtSIt/hE7a4z/Hg1
-----END CERTIFICATE-----
`;

/** As PEM. */
export const PRIVATE_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtGyHIzPx4WFGhsFX
T39847MZC5iI/0wSaB/2hLqigyuhRANCAASr/vkXAa1t09LbfujiQhxLjVJejC++
neASEeTu5+AL1nQLg2R8KjtNkKxM+Blj9MAFGUyLXWPeKArIXt7jouo+
-----END PRIVATE KEY-----
`;
