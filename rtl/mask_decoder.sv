// The mask decoder of docs/format.md, section 5: tiles of 16-bit words in, up to WIDTH mask bits of free
// ordinals a cycle out. Modes raw, static and prior; `const` layers have no tiles. Every tile that a reader
// must refuse, but for its CRC, is refused: what is left of its words is taken and thrown away, and `done`
// comes with `refused` other than 0.
//
//   refused  1 shorter than its states  2 a first state below 2^16  3 a word wanted and none left
//            4 a last state other than 2^16  5 words left  6 a raw tile of the wrong length
//            7 raw bits that are not the tile's
//
// A step takes the ordinals of one aligned group of WIDTH that are the tile's. Cycles of a coded tile of n
// groups: 1 + 2 L + 1 + n + 3 + L / WIDTH + 1, and those in which words, a taker or a plane are waited for; L
// is 4 or 32. States are read and written back 3 cycles apart, so where L / WIDTH is below 3, L / WIDTH
// groups take 3 cycles. Bits: 1024 of states, 2304 + 96 of planes, 180 a lane of pipeline, 32 * WIDTH of
// words that wait, 180 of control; the intervals (336) are the layer's.
module mask_decoder #(
    parameter integer WIDTH = 1,  // 1, 2 or 4
    parameter integer COUNT = $clog2(WIDTH + 1)
) (
    input  logic             clk,
    input  logic             rst,
    // the layer's stream
    input  logic [     31:0] layer,
    input  logic             wide,       // 32 lanes, else 4
    input  logic [      3:0] planes,     // planes + with_sign is 0 in a static layer
    input  logic             with_sign,
    input  logic [    143:0] starts,     // 16 of 9 bits; unused intervals repeat the last one
    input  logic [    191:0] densities,  // 16 of 12 bits; in a static layer all are its density
    // a tile: ordinals first to first + count - 1 in `size` words
    input  logic             tile_valid,
    output logic             tile_ready,
    input  logic             raw,
    input  logic [     31:0] first,
    input  logic [     31:0] count,
    input  logic [     30:0] size,
    // its words
    input  logic             word_valid,
    output logic             word_ready,
    input  logic [     15:0] word,
    // its bits: bit_count of them, 1 to WIDTH, the lowest ordinal first; the others are 0
    output logic             bit_valid,
    input  logic             bit_ready,
    output logic [WIDTH-1:0] mask_bits,
    output logic [COUNT-1:0] bit_count,
    // at its end, for one cycle
    output logic             done,
    output logic [      2:0] refused,
    // the generator
    output logic             call_valid,
    input  logic             call_ready,
    output logic [    127:0] counter,
    input  logic             words_valid,
    output logic             words_ready,
    input  logic [    127:0] words
);
    localparam logic [2:0] IDLE = 3'd0, LOAD = 3'd1, STEP = 3'd2, FINISH = 3'd3, RAW = 3'd4, DRAIN = 3'd5,
        DONE = 3'd6;
    localparam integer LOG = $clog2(WIDTH);
    localparam integer QUEUE = 2 * WIDTH;           // words that wait
    localparam integer SEEN = $clog2(QUEUE + 2);    // bits of how many
    logic [2:0] phase, fault;
    logic [31:0] ordinal, steps_left;  // of what enters the pipeline
    logic [30:0] size_left;            // words not yet taken from the port
    logic [5:0] step;                  // half states of LOAD, states of FINISH
    logic [15:0] low;                  // the half state before; in RAW the word that bits are taken from
    logic [4:0] raw_at;                // RAW: the bit in `low` that is next, 16 if none
    logic raw_half;                    // RAW: the word to come is the high half of its group
    logic is_prior;

    wire any_plane = planes != 4'd0 || with_sign;

    assign tile_ready = phase == IDLE;
    wire begins = tile_valid && tile_ready;

    // Words of a raw tile: two for each aligned group of 32 ordinals that it touches.
    wire [31:0] last = first + count - 32'd1;
    wire [27:0] raw_groups = {1'b0, last[31:5]} - {1'b0, first[31:5]} + 28'd1;
    wire [30:0] raw_size = count == 32'd0 ? 31'd0 : {2'd0, raw_groups, 1'b0};
    wire [30:0] least = count == 32'd0 ? 31'd0 : (wide ? 31'd64 : 31'd8);

    // -- words: those that wait, then the one at the port; `uses` of them are used in this cycle
    logic [16*QUEUE-1:0] waiting;
    logic [SEEN-1:0] waiting_count, uses;
    wire takes_word = word_ready && word_valid;
    logic [16*QUEUE+15:0] seen;
    always_comb begin
        seen = {16'd0, waiting};
        if (takes_word) seen[16*waiting_count+:16] = word;
    end
    wire [SEEN-1:0] seen_count = waiting_count + {{(SEEN - 1) {1'b0}}, takes_word};
    wire [15:0] next_word = seen[15:0];
    wire one_seen = seen_count != '0;
    wire room = waiting_count != QUEUE[SEEN-1:0];
    assign word_ready = phase != IDLE && phase != DONE && size_left != 31'd0 && room;
    wire [30:0] words_left = size_left + {{(31 - SEEN) {1'b0}}, waiting_count};

    // -- the group that is next: its ordinals that are the tile's
    wire [31:0] group_at = ordinal & ~(WIDTH - 32'd1);  // its first
    wire [31:0] skipped = ordinal & (WIDTH - 32'd1);
    wire [31:0] here = WIDTH - skipped < steps_left ? WIDTH - skipped : steps_left;
    wire [WIDTH-1:0] active = ~({WIDTH{1'b1}} << here) << skipped;

    // -- STEP: v and f (stage A), states and comparisons (B), products (C), the new states (D)
    wire [4:0] last_set = wide ? 5'd31 >> LOG : 5'd3 >> LOG;  // the lanes of a group are a set
    wire [4:0] set = group_at[LOG+:5] & last_set;
    logic asking, v_valid, a_valid, b_valid, c_valid;
    logic [9*WIDTH-1:0] v;
    logic [4:0] a_set, b_set, c_set;
    logic [WIDTH-1:0] a_active, b_active, c_active, c_bits, wants, last_states;
    logic [COUNT-1:0] a_skipped, b_skipped, c_skipped, a_here, b_here, c_here;

    logic [SEEN-1:0] wanted;
    wire starved = phase == STEP && c_valid && {{(31 - SEEN) {1'b0}}, wanted} > words_left;
    wire fed = wanted <= seen_count;
    wire go = phase == STEP && !starved && (!c_valid || (bit_ready && fed));
    wire busy_set = (a_valid && a_set == set) || (b_valid && b_set == set);
    wire enters = steps_left != 32'd0 && (!is_prior || v_valid) && !busy_set;

    score_planes #(.WIDTH(WIDTH)) scores (
        .clk(clk), .rst(rst), .layer(layer), .planes(planes), .with_sign(with_sign),
        .start(begins && any_plane && !raw && count != 32'd0), .first(first), .last_group(last[31:7]),
        .v_valid(v_valid), .v(v), .take(go && enters && is_prior), .stop(phase == DRAIN), .asking(asking),
        .call_valid(call_valid), .call_ready(call_ready), .counter(counter), .words_valid(words_valid),
        .words_ready(words_ready), .words(words)
    );

    wire [31:0] loaded = {next_word, low};
    wire [4:0] load_lane = step[5:1];
    wire last_load = step == {wide ? 5'd31 : 5'd3, 1'b1};
    wire loads = phase == LOAD && one_seen && step[0];
    genvar g;
    generate
        for (g = 0; g < WIDTH; g = g + 1) begin : g_lane
            logic [31:0] states[32/WIDTH];
            logic [11:0] f, a_f, b_rest, c_rest;
            logic [12:0] b_g;
            logic [19:0] b_quotient;
            logic b_bit, c_bit;
            logic [31:0] c_product;
            integer i;
            always_comb begin
                f = densities[11:0];
                for (i = 1; i < 16; i = i + 1) begin
                    if (is_prior && v[9*g+:9] >= starts[9*i+:9]) f = densities[12*i+:12];
                end
            end
            wire [31:0] x_read = states[a_set[4-LOG:0]];
            wire a_bit = x_read[11:0] < a_f;
            wire [31:0] x_next = c_product + {20'd0, c_rest};
            assign wants[g] = c_active[g] && x_next < 32'h10000;
            assign c_bits[g] = c_active[g] && c_bit;
            // FINISH looks at a set of states a cycle.
            assign last_states[g] = states[step[4-LOG:0]] == 32'h10000;
            // The word of this lane is after those of the lanes before it.
            logic [SEEN-1:0] nth;
            integer k;
            always_comb begin
                nth = '0;
                for (k = 0; k < g; k = k + 1) nth = nth + {{(SEEN - 1) {1'b0}}, wants[k]};
            end
            wire [15:0] mine = seen[16*nth+:16];
            always_ff @(posedge clk) begin
                if (loads && (load_lane & (WIDTH[4:0] - 5'd1)) == g) begin
                    states[load_lane[4:LOG]] <= loaded;
                end else if (go && c_valid && c_active[g]) begin
                    states[c_set[4-LOG:0]] <= wants[g] ? {x_next[15:0], mine} : x_next;
                end
                if (go) begin
                    a_f <= f;
                    b_bit <= a_bit;
                    b_quotient <= x_read[31:12];
                    b_g <= a_bit ? {1'b0, a_f} : 13'd4096 - {1'b0, a_f};
                    b_rest <= a_bit ? x_read[11:0] : x_read[11:0] - a_f;
                    c_bit <= b_bit;
                    c_product <= b_quotient * b_g;
                    c_rest <= b_rest;
                end
            end
        end
    endgenerate
    integer w;
    always_comb begin
        wanted = '0;
        for (w = 0; w < WIDTH; w = w + 1) wanted = wanted + {{(SEEN - 1) {1'b0}}, wants[w]};
    end

    // -- RAW
    wire raw_empty = raw_at[4];
    wire raw_more = steps_left != 32'd0;
    // Once all bits are out, whatever is still in the word must be 0.
    wire raw_stray = !raw_empty && !raw_more && (low >> raw_at[3:0]) != 16'd0;
    // So must be a half of a group before the tile's first bit, or after its last, and the bits before the
    // first in its own.
    wire raw_skips = raw_half != ordinal[4];
    wire [15:0] raw_outside = raw_more && !raw_skips ? ~(16'hFFFF << ordinal[3:0]) : 16'hFFFF;
    wire raw_foreign = (next_word & raw_outside) != 16'd0;
    wire raw_takes = phase == RAW && raw_empty && one_seen;
    wire [WIDTH-1:0] raw_bits = low[group_at[3:0]+:WIDTH] & active;

    always_comb begin
        bit_valid = c_valid && phase == STEP && !starved && fed;
        mask_bits = c_bits >> c_skipped;
        bit_count = c_here;
        if (phase == RAW) begin
            bit_valid = !raw_empty && raw_more;
            mask_bits = raw_bits >> skipped;
            bit_count = here[COUNT-1:0];
        end
        case (phase)
            LOAD: uses = {{(SEEN - 1) {1'b0}}, one_seen};
            STEP: uses = go && c_valid ? wanted : '0;
            RAW: uses = {{(SEEN - 1) {1'b0}}, raw_takes};
            DRAIN: uses = seen_count;
            default: uses = '0;
        endcase
    end
    wire [16*QUEUE+15:0] later = seen >> {uses, 4'd0};
    assign done = phase == DONE;
    assign refused = fault;

    always_ff @(posedge clk) begin
        if (rst) begin
            phase <= IDLE;
            waiting_count <= '0;
            a_valid <= 1'b0;
            b_valid <= 1'b0;
            c_valid <= 1'b0;
        end else begin
            case (phase)
                IDLE: if (begins) begin
                    fault <= 3'd0;
                    if (raw) begin
                        if (size != raw_size) fault <= 3'd6;
                        phase <= size != raw_size ? DRAIN : RAW;
                    end else begin
                        if (size < least) fault <= 3'd1;
                        else if (count == 32'd0 && size != 31'd0) fault <= 3'd5;
                        phase <= (size < least || count == 32'd0) ? DRAIN : LOAD;
                    end
                end
                LOAD: if (loads) begin
                    if (next_word == 16'd0) begin
                        fault <= 3'd2;
                        phase <= DRAIN;
                    end else if (last_load) phase <= STEP;
                end
                STEP: if (starved) begin
                    fault <= 3'd3;
                    phase <= DRAIN;
                end else if (steps_left == 32'd0 && !a_valid && !b_valid && go) begin
                    phase <= FINISH;
                end
                FINISH: begin
                    if (!(&last_states)) begin
                        fault <= 3'd4;
                        phase <= DRAIN;
                    end else if (step[4:0] == last_set) begin
                        if (words_left != 31'd0) fault <= 3'd5;
                        phase <= DRAIN;
                    end
                end
                RAW: begin
                    if (raw_stray || (raw_takes && raw_foreign)) begin
                        fault <= 3'd7;
                        phase <= DRAIN;
                    end else if (!raw_more && words_left == 31'd0) phase <= DONE;
                end
                DRAIN: if (size_left == 31'd0 && !asking) phase <= DONE;
                default: phase <= IDLE;
            endcase
            if (phase != STEP) begin
                a_valid <= 1'b0;
                b_valid <= 1'b0;
                c_valid <= 1'b0;
            end else if (go) begin
                a_valid <= enters;
                b_valid <= a_valid;
                c_valid <= b_valid;
            end
            waiting_count <= seen_count - uses;
        end

        if (begins) begin
            ordinal <= first;
            steps_left <= count;
            size_left <= size;
            step <= 6'd0;
            is_prior <= any_plane && !raw;
            raw_at <= 5'd16;
            raw_half <= 1'b0;
        end else begin
            if (takes_word) size_left <= size_left - 31'd1;
            if (phase == LOAD && one_seen) step <= last_load ? 6'd0 : step + 6'd1;
            if (phase == FINISH) step <= step + 6'd1;
            if ((phase == STEP && go && enters) || (phase == RAW && bit_valid && bit_ready)) begin
                ordinal <= ordinal + here;
                steps_left <= steps_left - here;
            end
            if (phase == RAW) begin
                if (raw_takes) raw_half <= !raw_half;
                if (raw_takes && !raw_skips && raw_more) raw_at <= {1'b0, ordinal[3:0]};
                else if (bit_valid && bit_ready) raw_at <= raw_at + here[4:0];
                else if (!raw_empty && !raw_more) raw_at <= 5'd16;
            end
        end
        if ((phase == LOAD && one_seen) || raw_takes) low <= next_word;
        waiting <= later[16*QUEUE-1:0];

        if (go) begin
            a_set <= set;
            a_active <= active;
            a_skipped <= skipped[COUNT-1:0];
            a_here <= here[COUNT-1:0];
            b_set <= a_set;
            b_active <= a_active;
            b_skipped <= a_skipped;
            b_here <= a_here;
            c_set <= b_set;
            c_active <= b_active;
            c_skipped <= b_skipped;
            c_here <= b_here;
        end
    end
endmodule
