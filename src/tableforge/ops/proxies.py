"""Complete configurations of HAProxy and nginx for a fleet: what balances it, for each LOAD_BALANCER_STRATEGY.

Pages and REST go to one group of servers, WebSockets to another, so that an open connection and a request of milliseconds
are not counted as the same thing. Requests that change nothing, and handshakes, are sent to another instance when one
cannot be reached or answers 503; others only where they cannot have arrived.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from tableforge.errors import Malformed

Strategy = Literal["round_robin", "least_connections", "weighted", "room_affinity"]

NAME_FORM = r"[A-Za-z0-9._-]{1,80}"
HOST_FORM = r"[A-Za-z0-9._-]{1,253}"
INSTANCES_MAX = 100
WEIGHT_MAX = 256
IDLE_PINGS = 6
IDLE_SECONDS_MIN = 60
"""A connection on which nothing moved for so many pings, and at least so long, is given up by the proxy."""
DESCRIPTORS_MAX = 131_072
WORKER_CONNECTIONS = 16_384
EASE_IN_SECONDS = 10
AWAY_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=color-scheme content='light dark'>"
    "<meta http-equiv=refresh content=3><title>One moment</title>"
    "<p>No server is there for this table right now. Nothing that was played is lost; this page tries again by itself.</p></html>"
)
"""What a browser is shown that asks while no instance serves; without double quotes."""


class Address(NamedTuple):
    """Where something listens; an IPv6 address without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_name(self) -> bool:
        """Whether somebody has to look it up."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False


class Instance(NamedTuple):
    """One `tableforge serve`, and its share beside the others."""

    name: str
    address: Address
    weight: int | None = None


class Plan(NamedTuple):
    """What a configuration is made from."""

    strategy: Strategy
    instances: Sequence[Instance]
    listen: Address
    figures: Address
    base_path: str = "/"
    ping_seconds: float = 10
    ease_in_seconds: int = EASE_IN_SECONDS
    """In which HAProxy gives an instance that starts its share, but for `room_affinity`."""

    @property
    def idle_seconds(self) -> int:
        """Longer than the instances' pings are apart, so that a quiet table is not taken for a dead one."""
        return max(IDLE_SECONDS_MIN, round(IDLE_PINGS * self.ping_seconds))


def read_address(written: str) -> Address:
    """Read `HOST:PORT` or `[IPv6]:PORT`. Raises Malformed."""
    host, colon, port = written.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else ""
    try:
        known = str(ipaddress.IPv6Address(bare)) if bare else host
    except ValueError:
        known = ""
    is_port = bool(re.fullmatch(r"[0-9]{1,5}", port)) and 1 <= int(port) <= 65_535
    if not (colon and is_port and (re.fullmatch(HOST_FORM, known) or (bare and known))):
        raise Malformed(
            f"{written!r} is no address.", mend="Write HOST:PORT, an IPv6 address in brackets."
        )
    return Address(known, int(port))


def read_instance(written: str) -> Instance:
    """Read `NAME=HOST:PORT` or `NAME=HOST:PORT@WEIGHT`. Raises Malformed."""
    name, equals, rest = written.partition("=")
    address, at, weight = rest.partition("@")
    if not (equals and re.fullmatch(NAME_FORM, name)):
        raise Malformed(
            f"{written!r} does not name an instance.",
            mend="Write NAME=HOST:PORT, with the INSTANCE_ID as NAME, and @WEIGHT behind it if wanted.",
        )
    is_weight = bool(re.fullmatch(r"[0-9]{1,3}", weight)) and 1 <= int(weight) <= WEIGHT_MAX
    if at and not is_weight:
        raise Malformed(
            f"{written!r} has a weight that is none.",
            mend=f"Write a number from 1 to {WEIGHT_MAX}.",
        )
    return Instance(name, read_address(address), int(weight) if at else None)


def check(plan: Plan) -> None:
    """Raise Malformed where the parts of a plan do not go together."""
    names = [one.name for one in plan.instances]
    addresses = [one.address for one in plan.instances]
    if not 1 <= len(names) <= INSTANCES_MAX:
        raise Malformed(f"A proxy needs 1 to {INSTANCES_MAX} instances, not {len(names)}.")
    for what, given in (("name", names), ("address", [str(one) for one in addresses])):
        doubled = next((one for one in given if given.count(one) > 1), None)
        if doubled is not None:
            raise Malformed(f"Two instances have the {what} {doubled}.")
    if {plan.listen, plan.figures} & set(addresses) or plan.listen == plan.figures:
        raise Malformed("The proxy cannot listen where an instance listens, or twice at one place.")
    if plan.strategy != "weighted" and any(one.weight is not None for one in plan.instances):
        raise Malformed(
            f"The strategy {plan.strategy} knows no weights.",
            mend="Leave @WEIGHT out, or take the strategy weighted.",
        )


def haproxy(plan: Plan) -> str:
    """A configuration for HAProxy 2.6 or newer. Raises Malformed."""
    check(plan)
    base = plan.base_path
    balance = "leastconn" if plan.strategy == "least_connections" else "roundrobin"
    affinity = plan.strategy == "room_affinity"
    # A weight that still rises would move rooms from instance to instance; a hash takes the same server for a second try,
    # so there the first failure takes it out, and the checks bring it back.
    checks = "check inter 1s fastinter 250ms downinter 1s fall 2 rise 2"
    eased = f" slowstart {plan.ease_in_seconds}s"
    checks += " observe layer7 error-limit 1 on-error mark-down" if affinity else eased
    resolved = any(one.address.is_name for one in plan.instances)
    if resolved:
        checks += " resolvers system init-addr last,libc,none"
    lines = [
        f"# HAProxy 2.6 or newer; written by `tableforge proxy-config haproxy --strategy {plan.strategy}`.",
        "",
        "global",
        "    log stderr format raw daemon notice",
        "    # Each client takes two descriptors; `ulimit -n` may allow fewer than this.",
        f"    fd-hard-limit {DESCRIPTORS_MAX}",
        "",
        *(
            ("resolvers system", "    parse-resolv-conf", "    hold valid 5s", "")
            if resolved
            else ()
        ),
        "defaults",
        "    mode http",
        "    log global",
        "    option httplog",
        "    option dontlog-normal",
        "    option dontlognull",
        "    timeout connect 2s",
        "    timeout queue 10s",
        "    timeout check 2s",
        "    timeout http-request 10s",
        "    timeout http-keep-alive 30s",
        "    timeout client 60s",
        "    timeout client-fin 5s",
        "    timeout server 60s",
        "    timeout server-fin 5s",
        f"    # Open WebSockets: the instances ping every {plan.ping_seconds:g} s.",
        f"    timeout tunnel {plan.idle_seconds}s",
        "    # Each try goes to another instance. What may have changed something is not tried twice.",
        "    retries 3",
        "    option redispatch 1",
        "    # An instance is asked whether it serves; draining or without its database it says 503.",
        "    option httpchk",
        "    http-check send meth GET uri /ready ver HTTP/1.1 hdr Host localhost hdr Connection close",
        "    http-check expect status 200",
        "    # While no instance serves: a page that tries again by itself.",
        f'    http-error status 503 content-type text/html string "{AWAY_PAGE}" hdr Cache-Control no-store',
        "",
        "frontend players",
        f"    bind {plan.listen}",
        "    # For TLS: bind :443 ssl crt /path/to/certificate.pem alpn h2,http/1.1",
        "    # The instances believe these lines when TRUSTED_PROXIES names this proxy.",
        "    option forwardfor",
        "    http-request set-header X-Forwarded-Host %[req.hdr(host)]",
        "    http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        "    http-request set-header X-Forwarded-Proto http unless { ssl_fc }",
    ]
    if base != "/":
        # `/table` itself leads to `/table/`, as the instances have it.
        lines.append(
            f"    http-request return status 404 unless {{ path_beg {base} }} || {{ path {base[:-1]} }}"
        )
    lines += [
        f"    use_backend sockets if {{ path {base}ws }} {{ method GET }}",
        "    default_backend pages",
        "",
        "backend pages",
        f"    balance {balance}",
        "    http-request disable-l7-retry unless { method GET HEAD }",
        "    retry-on conn-failure empty-response 503",
        *(
            f"    server {one.name} {one.address} track sockets/{one.name}"
            f"{_weight(one)}{' resolvers system init-addr last,libc,none' if resolved else ''}"
            for one in plan.instances
        ),
        "",
        "backend sockets",
    ]
    if affinity:
        lines += [
            "    # All members of a room meet on one instance: the address of their WebSocket names the room. Without one: in turn.",
            "    balance url_param room",
            "    hash-type consistent sdbm avalanche",
        ]
    else:
        lines.append(f"    balance {balance}")
    lines += [
        "    # A handshake has changed nothing: one that is refused goes to the next instance.",
        "    retry-on conn-failure empty-response 503",
        f"    default-server {checks}",
        *(f"    server {one.name} {one.address}{_weight(one)}" for one in plan.instances),
        "",
        "# The state of the instances for people, and /metrics for Prometheus.",
        "frontend figures",
        f"    bind {plan.figures}",
        "    http-request use-service prometheus-exporter if { path /metrics }",
        "    stats enable",
        "    stats uri /",
        "    stats refresh 10s",
    ]
    return "\n".join(lines) + "\n"


def nginx(plan: Plan) -> str:
    """A configuration for nginx 1.20 or newer, the open source one. Raises Malformed."""
    check(plan)
    spread = ["        least_conn;"] if plan.strategy == "least_connections" else []
    by_room = spread
    if plan.strategy == "room_affinity":
        by_room = [
            "        # All members of a room meet on one instance: the address of their WebSocket names the room.",
            "        hash $room_key consistent;",
        ]
    servers = {
        kind: [
            f"        server {one.address}{_weight(one, '=')} {failures}; # {one.name}"
            for one in plan.instances
        ]
        for kind, failures in (("pages", "max_fails=1 fail_timeout=2s"), ("sockets", "max_fails=0"))
    }
    headers = [
        "            proxy_http_version 1.1;",
        "            proxy_set_header Host $http_host;",
        "            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        "            proxy_set_header X-Forwarded-Host $http_host;",
        "            proxy_set_header X-Forwarded-Proto $scheme;",
    ]
    base = plan.base_path
    lines = [
        f"# nginx 1.20 or newer; written by `tableforge proxy-config nginx --strategy {plan.strategy}`.",
        "# This nginx does not ask the instances for /ready: it learns from requests that fail. When one cannot be reached, or",
        "# answers 503 because it drains, the request goes to the next one. HAProxy does ask, has figures for Prometheus, and",
        "# gives an instance that starts its share slowly.",
        "",
        "worker_processes auto;",
        "# An alert that setrlimit failed says that this machine allows fewer open files (`ulimit -Hn`): raise that, or lower this.",
        f"worker_rlimit_nofile {2 * WORKER_CONNECTIONS};",
        "error_log stderr warn;",
        "",
        "events {",
        f"    worker_connections {WORKER_CONNECTIONS};",
        "}",
        "",
        "http {",
        "    access_log off;",
        "    server_tokens off;",
        "    absolute_redirect off;",
        "    client_header_timeout 10s;",
        "    proxy_connect_timeout 2s;",
        "    # A request that may have changed something is not sent twice: nginx tries others again only if they never left.",
        "    proxy_next_upstream error timeout http_503;",
        "    proxy_next_upstream_tries 3;",
        "    proxy_next_upstream_timeout 10s;",
        "",
        "    # A WebSocket that names no room goes anywhere.",
        "    map $arg_room $room_key {",
        '        "" $request_id;',
        "        default $arg_room;",
        "    }",
        "",
        "    upstream pages {",
        "        zone pages 256k;",
        *spread,
        *servers["pages"],
        "        keepalive 32;",
        "    }",
        "",
        "    upstream sockets {",
        "        zone sockets 256k;",
        *by_room,
        "        # No failure is remembered: nginx would count one as past when the next connection ends, hours later.",
        *servers["sockets"],
        "    }",
        "",
        "    server {",
        f"        listen {plan.listen};",
        "        # For TLS: listen 443 ssl; ssl_certificate /path/to/chain.pem; ssl_certificate_key /path/to/key.pem;",
        "        # The instances have limits of their own for what is uploaded, and believe the X-Forwarded lines when their",
        "        # TRUSTED_PROXIES names this proxy.",
        "        client_max_body_size 0;",
        "",
        f"        location = {base}ws {{",
        "            proxy_pass http://sockets;",
        *headers,
        "            proxy_set_header Upgrade $http_upgrade;",
        '            proxy_set_header Connection "upgrade";',
        f"            # The instances ping every {plan.ping_seconds:g} s.",
        f"            proxy_read_timeout {plan.idle_seconds}s;",
        f"            proxy_send_timeout {plan.idle_seconds}s;",
        "        }",
        "",
        *(
            [
                f"        location = {base[:-1]} {{",
                f"            return 301 {base};",
                "        }",
                "",
            ]
            if base != "/"
            else []
        ),
        f"        location {base} {{",
        "            proxy_pass http://pages;",
        *headers,
        '            proxy_set_header Connection "";',
        "            proxy_request_buffering off;",
        "        }",
        *(
            ["", "        location / {", "            return 404;", "        }"]
            if base != "/"
            else []
        ),
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _weight(one: Instance, between: str = " ") -> str:
    return "" if one.weight is None else f" weight{between}{one.weight}"
