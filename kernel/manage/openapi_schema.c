/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/openapi_schema.c - the tables of openapi.h: answers of routes, objects, fields of bodies.
 *
 * A test checks that each route and each field is here, and real answers have no field that is not here
 * (tests/system/openapi.py).  One row a line, in the order of the route table. */
#include "kernel/manage/openapi.h"

#define GET    HTTP_VERB_GET
#define POST   HTTP_VERB_POST
#define PUT    HTTP_VERB_PUT
#define DELETE HTTP_VERB_DELETE
#define RAW    ROUTE_RAW
#define TEXT   ROUTE_TEXT

/* clang-format off */
const struct openapi_answer openapi_answers[] = {
    { GET,  "/v1", "Paths", "", "" },
    { GET,  "/v1/openapi.json", "OpenApi", "", "" },
    { GET,  "/v1/host", "Host", "", "" },
    { GET,  "/v1/host/evacuate", "Evacuation", "", "" },
    { POST, "/v1/host/evacuate", "Evacuation", "", "" },
    { POST, "/v1/host/evacuate/cancel", "Message", "", "" },
    { POST, "/v1/host/poweroff", "Evacuation", "", "" },
    { POST, "/v1/host/reboot", "Evacuation", "", "" },
    { POST, "/v1/host/set", "Message", "key value", "" },
    { GET,  "/v1/peers", "Peers", "", "" },
    { POST, "/v1/peers", "Message", "name address fingerprint", "" },
    { DELETE, "/v1/peers/*", "Message", "", "" },
    { GET,  "/v1/clients", "Clients", "", "" },
    { POST, "/v1/clients", "Message", "name fingerprint", "sure?:n" },
    { DELETE, "/v1/clients/*", "Message", "", "sure?:n" },
    { GET,  "/v1/log", TEXT, "", "" },
    { GET,  "/v1/events", "Events", "", "since?:n boot?:s timeout?:n" },
    { GET,  "/v1/vms", "Vms", "", "after?:s limit?:n" },
    { GET,  "/v1/vms/*", "Vm", "", "" },
    { PUT,  "/v1/vms/*", "Defined", "", "" },
    { DELETE, "/v1/vms/*", "JobBegun", "", "" },
    { GET,  "/v1/vms/*/config", TEXT, "", "from?:s" },
    { POST, "/v1/vms/*/disks", "Attached", "disk", "" },
    { DELETE, "/v1/vms/*/disks/*", "Attached", "", "" },
    { POST, "/v1/vms/*/nics", "Attached", "", "" },
    { DELETE, "/v1/vms/*/nics/*", "Attached", "", "" },
    { GET,  "/v1/vms/*/inspect", "VmInspect", "", "" },
    { POST, "/v1/vms/*/start", "Message", "", "" },
    { POST, "/v1/vms/*/stop", "Message", "", "" },
    { POST, "/v1/vms/*/shutdown", "Message", "", "" },
    { POST, "/v1/vms/*/reset", "Message", "", "" },
    { POST, "/v1/vms/*/set", "Message", "memory_target_bytes", "" },
    { POST, "/v1/vms/*/nmi", "Message", "", "" },
    { POST, "/v1/vms/*/pause", "Message", "", "" },
    { POST, "/v1/vms/*/resume", "Message", "", "" },
    { POST, "/v1/vms/*/save", "JobBegun", "", "" },
    { POST, "/v1/vms/*/save/cancel", "Message", "", "" },
    { POST, "/v1/vms/*/restore", "JobBegun", "", "" },
    { GET,  "/v1/vms/*/checkpoints", "Checkpoints", "", "" },
    { POST, "/v1/vms/*/checkpoints", "JobBegun", "", "" },
    { POST, "/v1/vms/*/checkpoints/*/revert", "JobBegun", "", "" },
    { DELETE, "/v1/vms/*/checkpoints/*", "JobBegun", "", "" },
    { GET,  "/v1/vms/*/console", RAW, "", "since?:n run?:s" },
    { POST, "/v1/vms/*/console", "Taken", "", "" },
    { POST, "/v1/vms/*/disks/*/move", "JobBegun", "place", "" },
    { DELETE, "/v1/vms/*/disks/*/move", "Message", "", "" },
    { GET,  "/v1/stores/*/volumes/*/data", RAW, "", "" },
    { PUT,  "/v1/stores/*/volumes/*/data", "Imported", "", "base?:n zeroes?:n" },
    { POST, "/v1/stores/*/volumes/*/import", "Imported", "bytes sha256", "" },
    { POST, "/v1/stores/*/volumes/*/import/finish", "JobBegun", "", "" },
    { GET,  "/v1/files", "Files", "", "" },
    { PUT,  "/v1/files/*", "FilePut", "", "sha256?:s" },
    { DELETE, "/v1/files/*", "JobBegun", "", "" },
    { GET,  "/v1/migrations", "Moves", "", "" },
    { POST, "/v1/migrations", "MoveReport", "vm to", "" },
    { GET,  "/v1/migrations/*", "MoveReport", "", "" },
    { POST, "/v1/migrations/*/cancel", "Message", "", "" },
    { POST, "/v1/migrations/*/set", "Message", "", "" },
    { POST, "/v1/migrations/*/resolve", "Message", "here", "" },
    { POST, "/v1/validate", "Validation", "vm to", "" },
    { POST, "/v1/stores/*/adopt", "JobBegun", "", "" },
    { GET,  "/v1/jobs", "Jobs", "", "" },
    { GET,  "/v1/jobs/*", "Job", "", "" },
    { GET,  "/v1/disks", "Disks", "", "" },
    { GET,  "/v1/stores", "Stores", "", "" },
    { POST, "/v1/stores", "JobBegun", "disk", "" },
    { GET,  "/v1/stores/*", "Store", "", "" },
    { GET,  "/v1/stores/*/volumes", "Volumes", "", "" },
    { POST, "/v1/stores/*/volumes", "JobBegun", "name", "" },
    { GET,  "/v1/stores/*/volumes/*", "Volume", "", "" },
    { DELETE, "/v1/stores/*/volumes/*", "JobBegun", "", "" },
    { POST, "/v1/stores/*/volumes/*/resize", "JobBegun", "bytes", "" },
    { POST, "/v1/stores/*/volumes/*/snapshot", "JobBegun", "name", "" },
    { POST, "/v1/stores/*/volumes/*/revert", "JobBegun", "", "" },
    { POST, "/v1/stores/*/volumes/*/rename", "JobBegun", "name", "" },
    { GET,  "/metrics", TEXT, "", "" },
    { 0, NULL, NULL, NULL, NULL },
};

const struct openapi_schema openapi_schemas[] = {
    { "Error", "code:s meaning:s message:s mistakes?:[Mistake]" },
    { "Mistake", "line:n message:s" },
    { "Message", "message:s" },
    { "Paths", "paths:[Path]" },
    { "Path", "method:s path:s role:read|operate what:s" },
    { "OpenApi", "openapi:s info:o paths:o components:o security:[o]" },
    { "Host", "name:s version:s virtualization:s tsc_khz:n uptime_us:n incoming:b outgoing:b max_jobs:n "
              "downtime_limit_ms:n client:s role:read|operate memory:HostMemory cpus:[HostCpu] network:HostNetwork "
              "peers:[HostPeer] details:[s] address?:s port:n fingerprint:s settings:[Setting]" },
    { "HostMemory", "total_bytes:n free_bytes:n promised_bytes:n promisable_bytes:n" },
    { "HostCpu", "online:b idle_us:n nmis:n machine_checks:n" },
    { "HostNetwork", "up:b received_bytes:n sent_bytes:n" },
    { "HostPeer", "name:s address:s port:n" },
    { "Setting", "key:s file:s now:s later:b" },
    { "Peers", "peers:[Peer]" },
    { "Peer", "name:s addresses:[s] port:n fingerprint:s from:file|later" },
    { "Clients", "clients:[Client]" },
    { "Client", "name:s role:read|operate fingerprint:s from:file|later" },
    { "Evacuation", "active:b cancelled:b ever:b guests:n over:n failed:n then:nothing|poweroff|reboot going_down:b "
                    "stays_up?:s items:[Evacuated]" },
    { "Evacuated", "vm:s migration:n to:s over:b gone:b code?:s message?:s" },
    { "Events", "boot:s next:n missed:n restarted:b events:[Event]" },
    { "Event", "number:n uptime_us:n unix_us:n kind:host|guest|move|disk|peer|job|audit subject:s what:s text:s" },
    { "Vms", "vms:[VmRow] next?:s" },
    { "VmRow", "name:s state:stopped|running|paused|crashed|incoming moving:b doubt?:s memory_bytes:n needed_bytes:n cpus:n "
               "cpu:s autostart:b autostart_mode:no|yes|always|last age_us?:n waits?:s starting:b start_text?:s "
               "start_code?:s crash_reason?:s left_to?:s saving?:b saved?:s "
               "power_button?:unused|ready|pressed|taken" },
    { "Defined", "job:n created:b at_next_start:b warning:s" },
    { "Attached", "job:n device:s at_next_start:b warning:s" },
    { "Vm", "+VmRow mac:s kernel:s initrd:s modules:[s] cmdline:s nic:b spoof:b disk_bytes:n uptime_us?:n "
            "cpu_percent?:n disks:[VmDisk] nics:[VmNic] cards:[Card] backed_bytes?:n "
            "memory_target_bytes?:n balloon_bytes?:n" },
    { "VmDisk", "device:s disk:s serial?:s read_only:b bytes?:n" },
    { "VmNic", "mac:s spoof:b" },
    { "Card", "mac:s addresses:[s]" },
    { "VmInspect", "+VmRow backed_bytes?:n dirty_log?:b vcpus?:[Vcpu] details:[s]" },
    { "Vcpu", "pcpu:n halted:b guest_us:n exits:{n}" },
    { "Taken", "taken:n" },
    { "Moves", "migrations:[Move]" },
    { "Move", "id:n vm:s to:s asked_by:s state:queued|choosing|connecting|moving|in-doubt|moved|failed doubt?:s ended:b "
              "transfer_type:live|quick|paused|cold|saved disk_transfer:none|shared|copied "
              "queue_position:n storage_position:n waits_for?:s phase:s why_peer?:s route:s percent:n round:n age_us:n waited_us:n "
              "elapsed_us:n eta_us:n bytes_per_s:n dirty_pages_per_s:n remaining_bytes:n throttle_percent:n "
              "wire_bytes:n blackout_us:n disks?:MoveDisks error?:MoveError" },
    { "MoveDisks", "bytes:n done_bytes:n us:n written_bytes:n zero_bytes:n wire_bytes:n" },
    { "MoveError", "code:s message:s" },
    { "MoveReport", "+Move options:MoveOptions connect_us:n blackout:Blackout pages:MovePages stream_bytes:MoveBytes "
                    "rounds:[Round]" },
    { "MoveOptions", "lz4:b live:b with_disks:b with_base:b keep:b places?:s policy?:s network?:s bandwidth_limit_mb:n downtime_limit_ms:n verify:b" },
    { "Blackout", "total_us:n stop_us:n pages_us:n verify_us:n state_us:n prepare_us:n commit_us:n "
                  "receiver_prepare_us:n receiver_run_us:n final_pages:n final_bytes:n frames:n start_us:n" },
    { "MovePages", "zero:n lz4:n raw:n delta:n same:n skipped:n" },
    { "MoveBytes", "total:n lz4:n raw:n delta:n other:n" },
    { "Round", "start_us:n us:n pages:n bytes:n dirty_pages:n dirty_pages_per_s:n estimate_us:n stood_us:n "
               "throttle_percent:n" },
    { "Validation", "vm:s to:s known:b would_move:b transfer_type?:live|quick|paused|cold|saved "
                    "disk_transfer?:none|shared|copied estimate?:Estimate free_bytes:n reasons:[s]" },
    { "Estimate", "moves:n bytes:n disk_bytes:n us:n blackout_us:n" },
    { "Checkpoints", "checkpoints:[Checkpoint]" },
    { "Checkpoint", "name:s store:s unix_s:n memory:b volumes:n bytes:n state:kept|reverting|reverted" },
    { "JobBegun", "job:n" },
    { "Jobs", "jobs:[Job]" },
    { "Imported", "at?:n bytes:n sha256?:s" },
    { "Files", "files:[File]" },
    { "File", "name:s place:s bytes:n sha256?:s used:b" },
    { "FilePut", "name:s sha256:s message:s" },
    { "Job", "job:n what:s asked_by:s state:running|failed|done elapsed_us:n bytes_done:n bytes:n "
             "phase?:s bytes_per_s?:n eta_us?:n code?:s message?:s" },
    { "Disks", "disks:[Disk]" },
    { "Disk", "name:s driver:s model:s serial:s bytes:n sector:n state:good|lost why:s errors:n resets:n contents:s "
              "store:s" },
    { "Stores", "stores:[Store]" },
    { "Store", "name:s uuid:s state:good|read-only|unusable why:s bytes:n free_bytes:n extent_bytes:n volumes:n "
               "disks:[s]" },
    { "Volumes", "volumes:[Volume]" },
    { "Volume", "name:s uuid:s bytes:n allocated_bytes:n read_only:b usable:b why:s open:b guest:s base:s sha256:s "
                "holds:s" },
    { NULL, NULL },
};

const struct openapi_field openapi_fields[] = {
    { "address", "s", "addresses of a peer, with commas between" },
    { "again", "b", "although the guest was restored from it before" },
    { "bandwidth_limit_mb", "n", "rate limit of the move, 10^6 bytes a second; 0: none" },
    { "bytes", "n", "the volume's size, rounded up to whole extents; of an import: length of the image" },
    { "disk", "s", "the name of a host's disk, such as nvme0; of a guest's one, what it is, such as lv:godwit/web" },
    { "downtime_limit_ms", "n", "longest downtime to plan with, 1 to 60000" },
    { "fingerprint", "s", "SHA-256 of the certificate (DER), 64 hex digits" },
    { "force", "b", "do it although it may do harm" },
    { "from", "s", "the base volume to clone; bytes is not given then" },
    { "here", "b", "true: resume the guest here; false: discard it here" },
    { "keep", "b", "do not delete the volumes that were moved from" },
    { "key", "s", "a key of [host] in godwit.conf" },
    { "kind", "live|quick|cold", "live: move the guest while it runs; quick: stop it first; cold: it is stopped" },
    { "with_disks", "b", "the guest's volumes move along" },
    { "with_base", "b", "of a clone whose base the peer does not have, the base's data go too" },
    { "places", "s", "where volumes that move along shall be: vda=STORE/VOLUME,vdb=STORE/VOLUME" },
    { "live", "b", "of a move: an older form of kind, true live, false quick; of a save: the guest goes on" },
    { "lz4", "b", "compress pages where that pays" },
    { "base", "b", "make it a base volume: read-only, its content known" },
    { "sha256", "s", "SHA-256 of the image, 64 hexadecimal digits in lower case" },
    { "mac", "s", "address of the network card; without it one is chosen" },
    { "memory_target_bytes", "n", "memory that the guest is to keep" },
    { "name", "s", "of what is made, added or changed" },
    { "network", "s", "use only the peer's addresses in this network, A.B.C.D/N" },
    { "overwrite", "b", "what there is in the new place may be lost" },
    { "place", "s", "STORE/VOLUME, which is made if need be, nbd:ADDRESS[:PORT]/EXPORT, or ram" },
    { "policy", "throttle|wait|stop", "for a live guest that writes faster than the network sends" },
    { "port", "n", "TCP port of a peer; 0: the usual one" },
    { "role", "read|operate", "what a client may do" },
    { "spoof", "b", "the card may send from any address" },
    { "stop_crashed", "b", "guests that have crashed are stopped" },
    { "sure", "b", "yes, really" },
    { "to", "s", "a peer's name, or auto" },
    { "value", "s", "as in godwit.conf" },
    { "verify", "b", "compare hashes of all memory before the handoff" },
    { "vm", "s", "a guest's name" },
    { "volume", "s", "STORE/VOLUME to save it in, or to restore it from" },
    { NULL, NULL, NULL },
};
/* clang-format on */
