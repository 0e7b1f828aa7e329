# The repository that tp0/entrega.sh makes, used as the course uses it. Sourced by run.sh after tp0.sh, whose checks it shares;
# $work is an empty folder. All images are built here with the classic builder, which docker-compose 1.29 uses: once for all
# branches, because their code is the same.
# shellcheck shell=bash disable=SC2154

entrega_clean_up() {
  docker compose -f "$work/entrega/docker-compose-dev.yaml" down --remove-orphans >/dev/null 2>&1
}
entrega_is_not_overwritten() {
  local told
  told=$(sh "$repository/tp0/entrega.sh" "$work/entrega" 2>&1)
  equal "$?" 2 && matches "$told" 'is not empty'
}
# Links of the README that lead to nothing, and paths that lead out of the repository.
dangling() {
  local link
  grep -oE '\]\([^)#]+' README.md | cut -c 3- | grep -v '^https:' | sort -u | while read -r link; do
    [ -e "$link" ] || echo "$link"
  done
  grep -nE '\.\./|tp0/(server|client)' README.md Makefile generar-compose.sh docker-compose-*.yaml
}
# branch_is NUMBER SERVER: it is about this exercise, its paths are right, and its file and its generator agree on the program.
branch_is() {
  git checkout --quiet . && git switch --quiet "ej$1" || return 1
  matches "$(head -n 1 README.md)" "^> \*\*Branch .ej$1., exercise $1: " && equal "$(dangling)" "" || return 1
  cp docker-compose-dev.yaml ../kept.yaml
  local clients
  clients=$(grep -c 'container_name: client' ../kept.yaml)
  bash generar-compose.sh docker-compose-dev.yaml "$clients" && cmp docker-compose-dev.yaml ../kept.yaml &&
    docker compose -f docker-compose-dev.yaml config --quiet && matches "$(grep -A 9 '^  server:' docker-compose-dev.yaml)" "command: \[\"$2\""
}
classic_images() {
  DOCKER_BUILDKIT=0 docker build -f ./server/Dockerfile -t server:latest . &&
    DOCKER_BUILDKIT=0 docker build -f ./client/Dockerfile -t client:latest .
}
# As the course starts a branch: N clients, quick ones.
up_branch() {
  git checkout --quiet . && git switch --quiet "ej$1" && quick_client &&
    bash generar-compose.sh docker-compose-dev.yaml "$2" && docker compose -f docker-compose-dev.yaml up -d
}
down_branch() { docker compose -f docker-compose-dev.yaml stop -t 5 && docker compose -f docker-compose-dev.yaml down; }

entrega() {
  check "entrega: makes the repository" sh "$repository/tp0/entrega.sh" "$work/entrega"
  check "entrega: does not write over another" entrega_is_not_overwritten
  cd "$work/entrega" || return 1
  check "entrega: its branches" equal "$(git branch --format '%(refname:short)' | paste -sd ' ')" "ej1 ej2 ej3 ej4 ej5 ej6 ej7 ej8"
  local number
  for number in 1 2 3 4; do check "entrega: ej$number" branch_is "$number" echo-server; done
  for number in 5 6 7 8; do check "entrega: ej$number" branch_is "$number" lottery-server; done
  check "entrega: no crates of other assignments" equal "$(find crates -maxdepth 1 | grep -E '/(bench|client|datanode|headnode|minicluster|records|server|store-client)$')" ""
  check "entrega: the images, by the classic builder" classic_images
  check "entrega: ej3 with two clients" up_branch 3 2
  check "entrega: both are heard" eventually heard "1 2"
  check "entrega: the check of the server" validates sh "success (0)"
  check "entrega: down" down_branch
  check "entrega: ej5 with five clients" up_branch 5 5
  check "entrega: each ends with code 0" eventually agencies_ended_well
  check "entrega: agencies and server tell of each bet" single_bets_told docker-compose-dev.yaml
  check "entrega: down" down_branch
  check "entrega: ej8 with five clients" up_branch 8 5
  check "entrega: each ends with code 0" eventually agencies_ended_well
  check "entrega: each is told its winners" winners_told
  check "entrega: bets.csv holds every bet" every_bet_stored .data
  check "entrega: down" down_branch
  # As it does by itself: with the classic builder.
  check "entrega: docker-compose 1.29 builds it" env COMPOSE_DOCKER_CLI_BUILD=0 DOCKER_BUILDKIT=0 docker-compose -f docker-compose-dev.yaml build
  check "entrega: make docker-compose-up" env DOCKER_BUILDKIT=0 make docker-compose-up
  check "entrega: ends with a new lottery" eventually agencies_ended_well
  check "entrega: its draw" drawn_once
  check "entrega: make docker-compose-down" down_well make docker-compose-down
}
