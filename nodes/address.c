/* address: see address.h. */

#include "address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bytes.h"
#include "error.h"

static const char tcp_scheme[] = "tcp://", ipc_scheme[] = "ipc://";

/* Addresses come from people and from the wire: what a detail quotes is cut and made printable. */
struct shown {
    char text[81];
};

static struct shown show (struct fm_slice s)
{
    struct shown shown;
    const size_t len = s.len < sizeof shown.text - 1 ? s.len : sizeof shown.text - 1;
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = ((const unsigned char *) s.data)[i];
        shown.text[i] = c < 0x20 || c >= 0x7f ? '?' : (char) c;
    }
    shown.text[len] = 0;
    return shown;
}

static int refuse (struct fm_slice text, const char *why)
{
    return error_set (FM_ERR_ADDRESS, "address '%s': %s; write tcp://HOST:PORT or ipc://PATH", show (text).text, why);
}

static bool starts_with (struct fm_slice text, const char *prefix)
{
    const size_t len = strlen (prefix);
    return text.len >= len && memcmp (text.data, prefix, len) == 0;
}

static bool host_byte (unsigned char c, bool v6)
{
    const bool digit = c >= '0' && c <= '9', letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return digit || letter || c == '.' || c == '-' || c == '_' || (v6 && (c == ':' || c == '%'));
}

static int parse_port (struct fm_slice text, struct fm_slice port, enum address_use use, uint16_t *ret_port)
{
    const char *digits = port.data;
    if (use == ADDRESS_TO_BIND && port.len == 1 && digits[0] == '*') {
        *ret_port = 0;
        return 0;
    }
    if (port.len == 0 || port.len > 5)
        return refuse (text, port.len ? "the port is no number from 1 to 65535" : "no port behind the host");
    unsigned value = 0;
    for (size_t i = 0; i < port.len; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return refuse (text, "the port is no number from 1 to 65535");
        value = value * 10 + (unsigned) (digits[i] - '0');
    }
    if (value > 65535 || (value == 0 && use == ADDRESS_TO_CONNECT))
        return refuse (text, "the port is no number from 1 to 65535");
    *ret_port = (uint16_t) value;
    return 0;
}

static int parse_host (struct fm_slice text, struct fm_slice host, enum address_use use, struct address *a)
{
    const char *bytes = host.data;
    a->v6 = host.len >= 2 && bytes[0] == '[' && bytes[host.len - 1] == ']';
    if (a->v6)
        host = slice (bytes + 1, host.len - 2);
    if (host.len == 0)
        return refuse (text, "no host");
    if (host.len > ADDRESS_HOST_MAX)
        return refuse (text, "the host's name is too long");
    const bool star = host.len == 1 && *(const char *) host.data == '*';
    if (star && (use == ADDRESS_TO_CONNECT || a->v6))
        return refuse (text, "'*' is no host to connect to");
    for (size_t i = 0; !star && i < host.len; i++) {
        if (!host_byte (((const unsigned char *) host.data)[i], a->v6))
            return refuse (text, "a character that no host has (an IPv6 address goes into brackets)");
    }
    memcpy (a->host, host.data, host.len);
    a->host[host.len] = 0;
    return 0;
}

static int parse_tcp (struct fm_slice text, enum address_use use, struct address *a)
{
    const char *rest = (const char *) text.data + strlen (tcp_scheme);
    const size_t len = text.len - strlen (tcp_scheme);
    const char *colon = len ? memrchr (rest, ':', len) : NULL;
    if (!colon || (rest[0] == '[' && len && rest[len - 1] == ']'))
        return refuse (text, "no port behind the host");
    a->kind = ADDRESS_TCP;
    const size_t host_len = (size_t) (colon - rest);
    int rc = parse_host (text, slice (rest, host_len), use, a);
    if (rc == 0)
        rc = parse_port (text, slice (colon + 1, len - host_len - 1), use, &a->port);
    return rc;
}

static int parse_ipc (struct fm_slice text, enum address_use use, struct address *a)
{
    const char *path = (const char *) text.data + strlen (ipc_scheme);
    const size_t len = text.len - strlen (ipc_scheme);
    if (len == 0 || (len == 1 && path[0] == '*'))
        return refuse (text, "no path");
    const size_t max = use == ADDRESS_TO_BIND ? ADDRESS_BIND_PATH_MAX : ADDRESS_PATH_MAX;
    if (len > max)
        return error_set (FM_ERR_ADDRESS, "address '%s': the path has %zu bytes, more than the %zu that a socket's may have; choose a shorter one",
                          show (text).text, len, max);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char) path[i] < 0x20 || path[i] == 0x7f || path[i] == ',')
            return refuse (text, "a control character or a comma in the path");
    }
    a->kind = ADDRESS_IPC;
    memcpy (a->path, path, len);
    a->path[len] = 0;
    return 0;
}

int address_parse (struct fm_slice text, enum address_use use, struct address *ret_address)
{
    struct address a = { 0 };
    int rc;
    if (text.len == 0)
        rc = error_set (FM_ERR_ADDRESS, "an address is empty; write tcp://HOST:PORT or ipc://PATH");
    else if (text.len >= ADDRESS_TEXT_MAX)
        rc = refuse (text, "it is too long");
    else if (starts_with (text, tcp_scheme))
        rc = parse_tcp (text, use, &a);
    else if (starts_with (text, ipc_scheme))
        rc = parse_ipc (text, use, &a);
    else
        rc = refuse (text, "it does not begin with tcp:// or ipc://");
    if (rc == 0)
        *ret_address = a;
    return rc;
}

char *address_text (const struct address *a, char text[ADDRESS_TEXT_MAX])
{
    char port[8] = "*";
    if (a->port)
        (void) snprintf (port, sizeof port, "%u", a->port);         /* five digits fit */
    int len;
    if (a->kind == ADDRESS_IPC)
        len = snprintf (text, ADDRESS_TEXT_MAX, "%s%s", ipc_scheme, a->path);
    else
        len = snprintf (text, ADDRESS_TEXT_MAX, a->v6 ? "%s[%s]:%s" : "%s%s:%s", tcp_scheme, a->host, port);
    assert (len > 0 && len < ADDRESS_TEXT_MAX);
    return text;
}

bool address_is_local (const struct address *a)
{
    return a->kind == ADDRESS_IPC || strcasecmp (a->host, "localhost") == 0 || strncmp (a->host, "127.", 4) == 0 ||
           (a->v6 && strcmp (a->host, "::1") == 0);
}

bool address_is_wildcard (const struct address *a)
{
    return a->kind == ADDRESS_TCP &&
           (strcmp (a->host, "*") == 0 || strcmp (a->host, "0.0.0.0") == 0 || (a->v6 && strcmp (a->host, "::") == 0));
}

bool address_same_host (const struct address *a, const struct address *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind == ADDRESS_TCP)
        return strcasecmp (a->host, b->host) == 0;
    const size_t len = strlen (a->path);
    return strncmp (a->path, b->path, len) == 0 && (b->path[len] == 0 || strcmp (b->path + len, ".live") == 0);
}

bool address_list_next (const char **list, struct fm_slice *ret_item)
{
    const char *p = *list;
    if (!p || !*p)
        return false;
    const char *end = strchrnul (p, ',');
    *list = *end ? end + 1 : end;
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *ret_item = slice (p, (size_t) (end - p));
    return true;
}

static bool is_number (const struct address *a)
{
    struct in_addr v4;
    return a->v6 || inet_pton (AF_INET, a->host, &v4) == 1;
}

int address_resolve_bind (struct address *a)
{
    if (a->kind == ADDRESS_IPC || address_is_wildcard (a) || is_number (a) || if_nametoindex (a->host) != 0)
        return 0;
    const struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    const int rc = getaddrinfo (a->host, NULL, &hints, &found);
    if (rc != 0)
        return error_set (FM_ERR_ADDRESS, "cannot listen at host '%s': %s; name an address or an interface of this machine", a->host,
                          gai_strerror (rc));
    char host[INET_ADDRSTRLEN];
    const char *text = inet_ntop (AF_INET, &((const struct sockaddr_in *) (const void *) found->ai_addr)->sin_addr, host, sizeof host);
    assert (text);      /* the buffer is large enough for every IPv4 address */
    (void) text;
    freeaddrinfo (found);
    memcpy (a->host, host, sizeof host);
    return 0;
}

/* --- Advertising. */

static bool list_add (struct address_list *list, const struct address *a)
{
    char text[ADDRESS_TEXT_MAX];
    address_text (a, text);
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp (list->text[i], text) == 0)
            return true;
    }
    if (list->count == ADDRESSES_MAX)
        return false;
    memcpy (list->text[list->count++], text, sizeof text);
    return true;
}

/* HOST or HOST:PORT; without a port that of *a stays. */
static int parse_advertised (struct fm_slice item, struct address *a)
{
    const char *text = item.data, *colon = item.len ? memrchr (text, ':', item.len) : NULL;
    const bool whole = item.len && text[item.len - 1] == ']';          /* [::1]: the colon is the host's */
    if (!colon || whole)
        return parse_host (item, item, ADDRESS_TO_CONNECT, a);
    const size_t host_len = (size_t) (colon - text);
    const int rc = parse_host (item, slice (text, host_len), ADDRESS_TO_CONNECT, a);
    return rc ? rc : parse_port (item, slice (colon + 1, item.len - host_len - 1), ADDRESS_TO_CONNECT, &a->port);
}

static int advertise_given (const struct address *bound, const char *hosts, bool hosts_only, struct address_list *list)
{
    struct fm_slice item;
    for (const char *rest = hosts; address_list_next (&rest, &item);) {
        struct address a = *bound;
        if (parse_advertised (item, &a) != 0)
            return error_set (FM_ERR_ADDRESS, "advertise: '%s' is no HOST and no HOST:PORT (no scheme belongs here)", show (item).text);
        if (hosts_only)
            a.port = bound->port;
        if (!list_add (list, &a))
            return error_set (FM_ERR_ADDRESS, "advertise: more than %d hosts", ADDRESSES_MAX);
    }
    assert (list->count > 0);       /* the text is not empty: it had an item */
    return 0;
}

/* The text of an interface's address, if others may be told of it. Link-local IPv6 needs a scope that is another on each machine. */
static bool interface_host (const struct ifaddrs *i, bool loopback, bool v6_bound, struct address *a)
{
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || loopback != ((i->ifa_flags & IFF_LOOPBACK) != 0))
        return false;
    const void *raw = i->ifa_addr;
    if (i->ifa_addr->sa_family == AF_INET) {
        a->v6 = false;
        return inet_ntop (AF_INET, &((const struct sockaddr_in *) raw)->sin_addr, a->host, sizeof a->host) != NULL;
    }
    if (i->ifa_addr->sa_family != AF_INET6 || !v6_bound)
        return false;
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *) raw)->sin6_addr;
    a->v6 = true;
    return !IN6_IS_ADDR_LINKLOCAL (in6) && inet_ntop (AF_INET6, in6, a->host, sizeof a->host) != NULL;
}

static int advertise_interfaces (const struct address *bound, struct address_list *list)
{
    struct ifaddrs *interfaces;
    if (getifaddrs (&interfaces) != 0)
        return -errno;
    for (int loopback = 0; loopback < 2 && list->count == 0; loopback++) {
        for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next) {
            struct address a = *bound;
            if (interface_host (i, loopback != 0, bound->v6, &a))
                (void) list_add (list, &a);     /* beyond the limit: the first ones must do */
        }
    }
    freeifaddrs (interfaces);
    if (list->count == 0)
        return error_set (FM_ERR_ADDRESS, "no network interface is up; give `bind` or `advertise`");
    return 0;
}

int address_advertise (const struct address *bound, const char *advertise, bool hosts_only, struct address_list *ret_list)
{
    struct address_list list = { .count = 0 };
    int rc = 0;
    if (bound->kind == ADDRESS_TCP && advertise && *advertise)
        rc = advertise_given (bound, advertise, hosts_only, &list);
    else if (address_is_wildcard (bound))
        rc = advertise_interfaces (bound, &list);
    else
        (void) list_add (&list, bound);         /* the first always fits */
    if (rc == 0)
        *ret_list = list;
    return rc;
}
