/**
 * A certificate for `dns.test` and 127.0.0.1, and that of the authority which signed it; valid for a
 * century. Made with
 *
 *     openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key \\
 *       -out ca.pem -days 36500 -subj "/CN=Test of DNS over HTTPS" \\
 *       -addext keyUsage=critical,keyCertSign
 *     openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout leaf.key \\
 *       -out leaf.csr -subj /CN=dns.test
 *     openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -days 36500 -out leaf.pem \\
 *       -extfile <(printf "subjectAltName=DNS:dns.test,IP:127.0.0.1\\nextendedKeyUsage=serverAuth")
 *
 * The keys protect nothing.
 * @module
 */

/** As PEM. */
export const AUTHORITY = `-----BEGIN CERTIFICATE-----
MIIBqTCCAU+gAwIBAgIUQZ/HmThbM12IgjZCGvOuzpHUr4EwCgYIKoZIzj0EAwIw
ITEfMB0GA1UEAwwWVGVzdCBvZiBETlMgb3ZlciBIVFRQUzAgFw0yNjExMjEwNjIw
MTlaGA8yMTI2MTAyODA2MjAxOVowITEfMB0GA1UEAwwWVGVzdCBvZiBETlMgb3Zl
ciBIVFRQUzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMWutLeZLOJInR7TBeVc
kTAdZFMd11OvYOHgfzxJq1m+A8IyzJzVG5iteE5hXHlk1KNRzn/s+fjPHZwFccpA
VS6jYzBhMB0GA1UdDgQWBBS1yuPOn6Q0n/2J6ntNf7UDQ4jeijAfBgNVHSMEGDAW
gBS1yuPOn6Q0n/2J6ntNf7UDQ4jeijAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB
/wQEAwICBDAKBggqhkjOPQQDAgNIADBFAiEA9BhwdS6aqUeEiBx3V+VDMTJr3gQH
1GaxibP3uR3UZQMCIB21at6r8/yW89DeEE1cduWL5wEb8ZG1hucz+zVEF6l4
-----END CERTIFICATE-----
`;

/** As PEM. */
export const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBuDCCAV+gAwIBAgIUcr0nPSJq1vuwVvgxJc8syGC1+hIwCgYIKoZIzj0EAwIw
ITEfMB0GA1UEAwwWVGVzdCBvZiBETlMgb3ZlciBIVFRQUzAgFw0yNjExMjEwNjIw
MTlaGA8yMTI2MTAyODA2MjAxOVowEzERMA8GA1UEAwwIZG5zLnRlc3QwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAAReyTSkdNVRhAdw2mdS+qiCi6K1yPMByAntET88
Rl35L+iTTlM/lOZrVyaxqoobELF/bI1/dpFMyy99Nn9ILkyCo4GAMH4wGQYDVR0R
BBIwEIIIZG5zLnRlc3SHBH8AAAEwDAYDVR0TAQH/BAIwADATBgNVHSUEDDAKBggr
BgEFBQcDATAdBgNVHQ4EFgQUyrAlHkahA73aW1nT6vrSTCRI0E8wHwYDVR0jBBgw
FoAUtcrjzp+kNJ/9iep7TX+1A0OI3oowCgYIKoZIzj0EAwIDRwAwRAIgFvmClNv6
sIVa+UqmkmnnayDF9GDCbp49a/hhSg1nB94CIBLcqxpj593KK6csTYXqHUaVcTuQ
8pVABlP9sWpa89G0
-----END CERTIFICATE-----
`;

/** As PEM. */
export const PRIVATE_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgp8Y38pww99K56ifc
xCty+FymXxrpWtE7VwM2zPCLnwOhRANCAAReyTSkdNVRhAdw2mdS+qiCi6K1yPMB
yAntET88Rl35L+iTTlM/lOZrVyaxqoobELF/bI1/dpFMyy99Nn9ILkyC
-----END PRIVATE KEY-----
`;
