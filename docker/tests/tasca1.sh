# Tasca 1 in containers. Sourced by run.sh; $work is an empty folder.
# shellcheck shell=bash disable=SC2154

# Programs that are not optimized do here, and are compiled in half the time.
readonly T1_PROFILE=${T1_PROFILE:-quick}
readonly MIDDLEWARES=(grpc xmlrpc redis rabbitmq objectstore hybrid)

# patiently COMMAND...: tries for 120 s. RabbitMQ alone takes 10 to 30 s to start.
patiently() {
  local output
  for _ in $(seq 240); do
    output=$("$@" 2>&1) && return 0
    sleep 0.5
  done
  printf 'not within 120 s: %s\n%s\n' "$*" "$output"
  return 1
}

# For what is not given standard input: `docker compose run` would take that of this script.
dataframe() { docker compose run --rm -T client "$@" </dev/null 2>/dev/null; }
# The same command in one process, without a cluster: what all others are compared with.
in_one_process() {
  docker run --rm --network none --env MIDDLEWARE=local --volume "$PWD/data:/data:ro" --volume "$PWD/$1:/results" tasca1-client "${@:2}" 2>/dev/null
}
tasca1_state() { docker inspect -f '{{.State.Status}}' "$1"; }
is_healthy() { equal "$(docker inspect -f '{{.State.Health.Status}}' "$1")" healthy; }
worker_count() { equal "$(dataframe nodes list | grep -cE '^worker[0-9] +ready ')" "$1"; }

demo_in_one_process() {
  mkdir reference && chown "$OWNER" reference
  in_one_process reference demo --data /data --output-dir /results >reference.shown && [ -s reference.shown ] &&
    equal "$(cd reference && echo *)" 'apply.csv columns.txt groupby.csv head.csv isin.csv items.txt max.csv min.csv read_csv.csv resultados.txt'
}

# The client's files and what it showed, to the byte.
same_as_in_one_process() {
  local file
  docker logs "$1" >shown 2>/dev/null
  cmp shown reference.shown || return 1
  for file in reference/*; do cmp "$file" "client/${file#reference/}" || return 1; done
}
forget_results() { find client -maxdepth 1 -type f ! -name Dockerfile ! -name .gitkeep -delete; }

# 120 MB in six files: tasks for all workers.
large_data() {
  local number
  seq 200000 | awk '{ printf "%s,%d,%.2f\n", "name" $1 % 1000, $1 * 7919 % 100003, $1 / 8 }' >rows
  mkdir data/large
  for number in 1 2 3 4 5 6; do
    { echo name,x,y && for _ in 1 2 3 4 5 6; do cat rows; done; } >"data/large/$number.csv"
  done
  rm rows
  in_one_process reference "${LARGE_JOB[@]}" >large.expected && has_rows large.expected 1001
}
readonly LARGE_JOB=(groupby '/data/large/*.csv' --by name --agg 'count(x)' 'sum(x)' 'mean(y)' 'max(y)' --output csv)
has_rows() { equal "$(wc -l <"$1")" "$2"; }

# during_a_large_job COMMAND...: the command succeeds while the job is on its way, and the job's result is right.
#
# A worker that is paused does not finish, and so the job does not end before the command.
during_a_large_job() {
  local client outcome=0 container
  for container in tasca1-worker-{1,2,3}; do docker pause "$container" >/dev/null || return 1; done
  dataframe "${LARGE_JOB[@]}" --wait 2m >large.result &
  client=$!
  eventually client_is_connected || outcome=1
  kill -0 "$client" 2>/dev/null || { echo "the job has ended before the fault"; outcome=1; }
  "$@" || outcome=1
  wait "$client" || { echo "the client has failed"; outcome=1; }
  cmp large.result large.expected && [ "$outcome" -eq 0 ]
}
# To the master or to the broker. With a bucket, the client's request lies there until it is answered; workers that are paused send none.
client_is_connected() {
  local container
  if [ "$MIDDLEWARE" = objectstore ]; then
    matches "$(docker exec tasca1-master-1 ls /bucket/dataframe/requests/master)" '^[0-9A-Z]{26}-[0-9A-Z]{26}$'
    return
  fi
  container=$(docker ps --filter label=com.docker.compose.oneoff=True --filter name=tasca1-client-run --format '{{.Names}}') && [ -n "$container" ] || return 1
  # 01: established.
  matches "$(docker exec "$container" cat /proc/net/tcp)" '^ *[0-9]+: [0-9A-F:]+ [0-9A-F:]+ 01 '
}
all_go_on() {
  local container
  for container in tasca1-worker-{1,2,3}; do
    [ "$(tasca1_state "$container")" != paused ] || docker unpause "$container" >/dev/null || return 1
  done
}
a_worker_is_killed() { docker kill tasca1-worker-2 >/dev/null && all_go_on && equal "$(tasca1_state tasca1-worker-2)" exited; }
a_broker_restarts() { docker restart "tasca1-$1-1" >/dev/null && all_go_on; }
is_missed() { matches "$(docker logs tasca1-master-1 2>&1)" 'worker gone.*worker="?worker2'; }
comes_back() { docker start tasca1-worker-2 >/dev/null && patiently worker_count 3; }

# A pair of masters: MASTER leads, and is killed.
the_leader_is_killed() { docker kill "tasca1-$1-1" >/dev/null && all_go_on && equal "$(tasca1_state "tasca1-$1-1")" exited; }
# What a master has said last of its role.
role_of() { docker logs "tasca1-$1-1" 2>&1 | grep -oE 'taking over|stepping down|standing by' | tail -n 1; }
leads() { equal "$1: $(role_of "$1")" "$1: taking over"; }
stands_by() { equal "$1: $(role_of "$1")" "$1: standing by"; }
one_leads() { { leads master && stands_by standby; } || { leads standby && stands_by master; }; }

# Python's standard library calls the master, through the port that is published.
python_is_a_client() {
  python3 - <<'PYTHON'
import csv, io, json, xmlrpc.client
master = xmlrpc.client.ServerProxy("http://localhost:9000")
assert len(master.listWorkers()) == 3, master.listWorkers()
operations = [{"read_csv": {"paths": ["/data/large/1.csv"]}}, {"groupby": {"by": ["name"], "agg": ["count(x)"]}}]
rows = [json.loads(line) for line in master.compute(json.dumps(operations)).splitlines()]
assert len(rows) == 1000 and all(row["count(x)"] == 1200 for row in rows), rows[:3]
PYTHON
}
# The last number that the example shows is a temperature of Puerto Iguazú.
example_runs() { matches "$(python3 python/example.py 2>&1)" 'Puerto Iguazú.*86\.0'; }

# The page is published on this computer only.
page_shows_three_workers() { matches "$(curl --fail --silent --max-time 5 http://127.0.0.1:5081/api/frame)" '"kind":"dataframe".*"ready":3,'; }
page_is_for_this_computer() { equal "$(docker ps --filter name=tasca1-master --format '{{.Ports}}' | grep -oE '[^ ]+:5081->' | sort -u)" '127.0.0.1:5081->'; }
# No port but the master's is published to others.
ports() { equal "$(docker ps --filter name=tasca1- --format '{{.Ports}}' | grep -o '0.0.0.0:[0-9]*' | sort -u | paste -sd ' ')" 0.0.0.0:9000; }
wrong_middleware_is_told() { matches "$(MIDDLEWARE=telegraph docker compose run --rm -T --no-deps client columns /data 2>&1 </dev/null)" "MIDDLEWARE is grpc, .*, not 'telegraph'"; }
broker_of() {
  case "$1" in
    redis | hybrid) echo redis ;;
    rabbitmq) echo rabbitmq ;;
  esac
}
running_brokers() { docker ps --format '{{.Names}}' | sed -nE 's/^tasca1-(redis|rabbitmq)-1$/\1/p' | sort | paste -sd ' '; }

# One `docker compose up`, from its start to its end.
tasca1_over() {
  export MIDDLEWARE=$1
  local broker service
  broker=$(broker_of "$1")
  forget_results
  check "t1 $1: docker compose up" docker compose up --detach --no-color
  check "t1 $1: the client ends with code 0" patiently ended_well tasca1-client-1
  check "t1 $1: its results are those of one process, to the byte" same_as_in_one_process tasca1-client-1
  check "t1 $1: the brokers that run are: ${broker:-none}" equal "$(running_brokers)" "$broker"
  for service in master worker; do
    check "t1 $1: the $service is healthy" patiently is_healthy "tasca1-$service-1"
    check "t1 $1: the $service runs as the owner, without capabilities" no_privileges "$service"
    check "t1 $1: the $service has a read-only root file system" read_only_root "$service"
  done
  [ -z "$broker" ] || check "t1 $1: $broker has a read-only root file system" read_only_root "$broker"
  check "t1 $1: three workers" patiently worker_count 3
  check "t1 $1: only port 9000 is published to others" ports
  check "t1 $1: the page shows three workers" patiently page_shows_three_workers
  check "t1 $1: the page is for this computer only" page_is_for_this_computer
  [ "$1" != xmlrpc ] || check "t1 $1: Python's xmlrpc.client is a client" python_is_a_client
  [ "$1" != xmlrpc ] || check "t1 $1: the example of the client in Python runs" example_runs
  check "t1 $1: a worker is killed in a job" during_a_large_job a_worker_is_killed
  check "t1 $1: the master has missed it" eventually is_missed
  check "t1 $1: it comes back" comes_back
  [ -z "$broker" ] || check "t1 $1: $broker is restarted in a job" during_a_large_job a_broker_restarts "$broker"
  check "t1 $1: docker compose down within 15 s" at_most 15 docker compose down --volumes
  unset MIDDLEWARE
}

# Two masters. Each of them is killed once while it leads, in the middle of a job.
tasca1_pair_over() {
  export MIDDLEWARE=$1 COMPOSE_FILE=docker-compose.yml:docker-compose.standby.yml
  local name="t1 $1, two masters" leader=master other=standby service
  forget_results
  check "$name: docker compose up" docker compose up --detach --no-color
  check "$name: the client ends with code 0" patiently ended_well tasca1-client-1
  check "$name: its results are those of one process, to the byte" same_as_in_one_process tasca1-client-1
  for service in master standby; do
    check "$name: $service is healthy" patiently is_healthy "tasca1-$service-1"
    check "$name: $service runs as the owner, without capabilities" no_privileges "$service"
  done
  check "$name: only port 9000 is published" ports
  check "$name: one leads and the other one stands by" eventually one_leads
  leads master >/dev/null || { leader=standby; other=master; }
  for _ in first second; do
    check "$name: three workers" patiently worker_count 3
    check "$name: $leader leads, and is killed in a job" during_a_large_job the_leader_is_killed "$leader"
    check "$name: $other has taken over" leads "$other"
    # Before any `docker compose run`, which would start it, as the client depends on it.
    check "$name: $leader is started again" docker start "tasca1-$leader-1"
    check "$name: $leader stands by" eventually stands_by "$leader"
    read -r leader other <<<"$other $leader"
  done
  check "$name: docker compose down within 15 s" at_most 15 docker compose down --volumes
  unset MIDDLEWARE COMPOSE_FILE
}

# The certificates are made by the client's image, and belong to the owner of the clone.
make_certificates() {
  docker compose run --rm -T --no-deps client certificates new tls --host master </dev/null &&
    equal "$(stat -c '%u:%g %a' client/tls/node.key)" "$OWNER 600"
}
# A client of the same network that shows nothing.
is_refused() { matches "$(COMPOSE_FILE=docker-compose.yml docker compose run --rm -T --no-deps client nodes list --wait 2s 2>&1 </dev/null)" 'the master .*does not answer'; }
tasca1_with_certificates() {
  export MIDDLEWARE=$1 COMPOSE_FILE=docker-compose.yml:docker-compose.tls.yml
  local name="t1 $1, certificates"
  forget_results
  check "$name: docker compose up" docker compose up --detach --no-color
  check "$name: the client ends with code 0" patiently ended_well tasca1-client-1
  check "$name: its results are those of one process, to the byte" same_as_in_one_process tasca1-client-1
  check "$name: three workers" patiently worker_count 3
  check "$name: a client without one gets nothing" is_refused
  check "$name: docker compose down within 15 s" at_most 15 docker compose down --volumes
  unset MIDDLEWARE COMPOSE_FILE
}

tasca1() {
  local image middleware
  copy_as "$OWNER" "$work/t1"
  cd "$work/t1/tasca1" || return 1
  for image in master worker client redis rabbitmq; do docker image rm --force "tasca1-$image" >/dev/null 2>&1; done
  # On a quiet computer of two cores it takes half of that.
  check "t1: docker compose build within 25 minutes" at_most 1500 docker compose --progress plain build --build-arg "PROFILE=$T1_PROFILE"
  check "t1: the nine operations in one process" demo_in_one_process
  check "t1: a larger job in one process" large_data
  for middleware in "${MIDDLEWARES[@]}"; do tasca1_over "$middleware"; done
  for middleware in grpc redis; do tasca1_pair_over "$middleware"; done
  check "t1: certificates" make_certificates
  for middleware in grpc xmlrpc; do tasca1_with_certificates "$middleware"; done
  check "t1: a middleware that is none is told" wrong_middleware_is_told
  forget_results
  check "t1: docker-compose 1.29 runs it over Redis" env MIDDLEWARE=redis docker-compose up -d
  check "t1: and its client ends with code 0" patiently ended_well tasca1_client_1
  check "t1: with the same results" same_as_in_one_process tasca1_client_1
  check "t1: docker-compose 1.29 down" env MIDDLEWARE=redis docker-compose down --volumes
  check "t1: the results belong to the owner of the clone, who can delete them" owned_and_deletable client/*.csv client/*.txt
}
