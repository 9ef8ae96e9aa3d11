# shellcheck shell=bash
# The raw commands behind crm.platform.site, for one Debian 12 host, without a check, a
# second thought or a second run: what the collection's overhead is measured against.
# Expects the package's source tree in /root/source and the setup's wishes in /root/setup.json.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
install="apt-get install -y -qq --no-install-recommends"

apt-get update -qq
$install ca-certificates gnupg openssl python3-cryptography ssl-cert >/dev/null

# Certificates and secrets
install -d /etc/crm-platform /etc/crm-platform/pki /var/lib/crm-platform
install -d -m 700 /etc/crm-platform/secrets
cd /etc/crm-platform/pki
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -nodes -keyout ca.key -out ca.crt -days 3650 -subj /CN=authority 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout host.key -out host.csr -subj /CN=localhost 2>/dev/null
openssl x509 -req -in host.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 397 -out host.crt 2>/dev/null
chgrp ssl-cert host.key
chmod 640 host.key

# Database
install -d /etc/postgresql-common/createcluster.d
echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/raw.conf
$install postgresql-15 python3-psycopg2 >/dev/null
pg_createcluster --locale C.UTF-8 --encoding UTF8 15 main -- --data-checksums >/dev/null
cp /root/postgresql.conf /etc/postgresql/15/main/conf.d/crm-platform.conf
cat >/etc/postgresql/15/main/pg_hba.conf <<END
local all postgres peer map=crm_admin
local crm crm peer map=crm_platform
END
cat >/etc/postgresql/15/main/pg_ident.conf <<END
crm_admin postgres postgres
crm_admin root postgres
crm_platform crm-platform crm
END
systemctl start postgresql@15-main
psql -q -U postgres -c "CREATE ROLE crm LOGIN" -c "CREATE DATABASE crm OWNER crm TEMPLATE template0 ENCODING 'UTF8'"
psql -q -U postgres -d crm -c "CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pg_trgm; CREATE EXTENSION unaccent"

# Package
$install apt-utils dpkg-dev python3-venv >/dev/null
bash /root/source/tools/build "$CRM_VERSION" bookworm raw >/root/build.log
install -d /srv/raw
mv /root/crm-platform_*.deb /srv/raw/
cd /srv/raw
apt-ftparchive packages . >Packages
apt-ftparchive release . >Release
gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key raw ed25519 sign never 2>/dev/null
gpg --batch --quiet --clearsign -o InRelease Release
gpg --export >/usr/share/keyrings/raw.gpg
echo "deb [signed-by=/usr/share/keyrings/raw.gpg] file:/srv/raw ./" >/etc/apt/sources.list.d/raw.list
apt-get update -qq -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/raw.list -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=false

# CRM and its front
$install crm-platform nginx >/dev/null
cp /root/crm-platform.conf /etc/crm-platform/crm-platform.conf
chgrp crm-platform /etc/crm-platform/crm-platform.conf
runuser -u crm-platform -- crm-platform-setup </root/setup.json >/dev/null
systemctl enable -q --now crm-platform crm-platform-worker crm-platform-cron
rm -f /etc/nginx/sites-enabled/default
cp /root/site.conf /etc/nginx/sites-enabled/crm
systemctl reload-or-restart nginx

# Network
$install nftables iproute2 >/dev/null
nft -f /root/firewall.nft
tc qdisc replace dev eth0 root handle 1: htb default 30
for _ in $(seq 60); do
    curl -fsk https://localhost/health >/dev/null 2>&1 && exit 0
    python3 -c "import ssl, urllib.request as r; r.urlopen('https://localhost/health', context=ssl._create_unverified_context())" 2>/dev/null && exit 0
    sleep 0.5
done
echo "the CRM does not answer" >&2
exit 1
