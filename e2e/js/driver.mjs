// Runs matrix-js-sdk as Element Web does, on commands from the test: one line of JSON each on the
// standard input; answers and events go out the same way. What the SDK logs goes to standard error.

import readline from "node:readline";

for (const level of ["log", "info", "warn", "debug", "trace"]) {
    console[level] = console.error;
}
const sdk = await import("matrix-js-sdk");
const { SlidingSync, SlidingSyncEvent, SlidingSyncState } = await import("matrix-js-sdk/lib/sliding-sync.js");

const write = (line) => process.stdout.write(JSON.stringify(line) + "\n");

// What Element Web asks of each list; it asks for no m.room.name, and takes that from `name`.
const LIST_STATE = [
    ["m.room.join_rules", ""],
    ["m.room.avatar", ""],
    ["m.room.canonical_alias", ""],
    ["m.room.tombstone", ""],
    ["m.room.encryption", ""],
    ["m.room.create", ""],
    ["m.space.child", "*"],
    ["m.space.parent", "*"],
    ["m.room.member", "$ME"],
];
const FIRST_WINDOW = 10;
const NEXT_WINDOW = 50;

let client;
let sliding;
const bounds = new Map();

function listParameters(filters) {
    return {
        ranges: [[0, FIRST_WINDOW]],
        timeline_limit: 1,
        required_state: LIST_STATE,
        include_old_rooms: { timeline_limit: 0, required_state: LIST_STATE },
        filters,
    };
}

// Widens every list that has more rooms than its window, as Element Web does after each response.
function widen() {
    for (const [key, bound] of bounds) {
        const data = sliding.getListData(key);
        if (data && data.joinedCount > bound) {
            const next = bound + NEXT_WINDOW;
            bounds.set(key, next);
            sliding.setListRanges(key, [[0, next]]);
        }
    }
}

function describe(event) {
    return {
        event: "message",
        room: event.getRoomId(),
        id: event.getId(),
        sender: event.getSender(),
        body: event.getContent().body ?? null,
        encrypted: event.isEncrypted(),
    };
}

const commands = {
    async login({ url, name, password }) {
        const anonymous = sdk.createClient({ baseUrl: url });
        const identifier = { type: "m.id.user", user: name };
        const session = await anonymous.loginRequest({ type: "m.login.password", identifier, password });
        // Element Web prefers the address that the answer names over the one it asked.
        const baseUrl = session.well_known?.["m.homeserver"]?.base_url?.replace(/\/+$/, "") ?? url;
        client = sdk.createClient({
            baseUrl,
            userId: session.user_id,
            deviceId: session.device_id,
            accessToken: session.access_token,
        });
        await client.initRustCrypto({ useIndexedDB: false });
        const supported = await client.doesServerSupportUnstableFeature("org.matrix.simplified_msc3575");
        return { baseUrl, supported, user: session.user_id };
    },

    async start() {
        const lists = new Map([
            ["invites", listParameters({ is_invite: true })],
            ["dms", listParameters({ is_dm: true, is_invite: false, not_tags: ["m.favourite", "m.lowpriority"] })],
            ["untagged", listParameters({})],
        ]);
        for (const key of lists.keys()) {
            bounds.set(key, FIRST_WINDOW);
        }
        const subscription = { timeline_limit: 50, required_state: [["*", "*"]] };
        sliding = new SlidingSync(client.baseUrl, lists, subscription, client, 20000);
        sliding.on(SlidingSyncEvent.Lifecycle, (state, response, error) => {
            if (error) {
                write({ event: "error", status: error.httpStatus ?? null, text: String(error) });
            } else if (state === SlidingSyncState.Complete) {
                setTimeout(widen, 50);
            }
        });
        client.on("sync", (state) => write({ event: "sync", state }));
        client.on("Room.myMembership", (room, membership) => {
            write({ event: "membership", room: room.roomId, membership });
        });
        client.on("Room.timeline", (event, _room, toStartOfTimeline) => {
            if (!toStartOfTimeline && event.getType() === "m.room.message" && !event.isEncrypted()) {
                write(describe(event));
            }
        });
        client.on("Event.decrypted", (event) => {
            if (!event.isDecryptionFailure()) {
                write(describe(event));
            }
        });
        await client.startClient({ slidingSync: sliding });
        return {};
    },

    async rooms() {
        return client.getRooms().map((room) => ({
            id: room.roomId,
            name: room.name,
            membership: room.getMyMembership(),
            encrypted: room.hasEncryptionStateEvent(),
        }));
    },

    async look({ room }) {
        sliding.modifyRoomSubscriptions(new Set([room]));
        return {};
    },

    async join({ room }) {
        await client.joinRoom(room);
        return {};
    },

    async create({ invite }) {
        const created = await client.createRoom({
            preset: "trusted_private_chat",
            is_direct: true,
            invite,
            initial_state: [
                { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } },
            ],
        });
        return { room: created.room_id };
    },

    async members({ room }) {
        const joined = client.getRoom(room)?.getJoinedMembers() ?? [];
        return joined.map((member) => member.userId);
    },

    async send({ room, body }) {
        const sent = await client.sendTextMessage(room, body);
        return { id: sent.event_id };
    },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
    const { id, command, arguments: given } = JSON.parse(line);
    try {
        write({ id, result: await commands[command](given) });
    } catch (error) {
        write({ id, error: String(error?.stack ?? error) });
    }
}
// The test has gone away, or is done.
process.exit(0);
