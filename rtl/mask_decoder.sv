// The mask decoder of docs/format.md, section 5: tiles of 16-bit words in, a mask bit of a free ordinal a cycle out. Modes raw,
// static and prior; `const` layers have no tiles. Every tile that a reader must refuse, but for its CRC, is refused: what is left of
// its words is taken and thrown away, and `done` comes with `refused` other than 0.
//
//   refused  1 shorter than its states  2 a first state below 2^16  3 a word wanted and none left
//            4 a last state other than 2^16  5 words left  6 a raw tile of the wrong length  7 raw bits that are not the tile's
//
// Cycles of a coded tile: 1 + 2 L + 1 + (b - a) + 3 + L + 1, and those in which a word, a taker or a plane is waited for; L is
// 4 or 32. A state is read and written back 3 cycles apart, so 4 lanes do not stall. Bits: 1024 of states, 2304 + 96 of
// planes, 180 of pipeline, 180 of control; the intervals (336) are the layer's.
module mask_decoder (
    input  logic         clk,
    input  logic         rst,
    // the layer's stream
    input  logic [ 31:0] layer,
    input  logic         wide,       // 32 lanes, else 4
    input  logic [  3:0] planes,     // planes + with_sign is 0 in a static layer
    input  logic         with_sign,
    input  logic [143:0] starts,     // 16 of 9 bits; unused intervals repeat the last one
    input  logic [191:0] densities,  // 16 of 12 bits; in a static layer all are its density
    // a tile: ordinals first to first + count - 1 in `size` words
    input  logic         tile_valid,
    output logic         tile_ready,
    input  logic         raw,
    input  logic [ 31:0] first,
    input  logic [ 31:0] count,
    input  logic [ 30:0] size,
    // its words
    input  logic         word_valid,
    output logic         word_ready,
    input  logic [ 15:0] word,
    // its bits
    output logic         bit_valid,
    input  logic         bit_ready,
    output logic         mask_bit,
    // at its end, for one cycle
    output logic         done,
    output logic [  2:0] refused,
    // the generator
    output logic         call_valid,
    input  logic         call_ready,
    output logic [127:0] counter,
    input  logic         words_valid,
    output logic         words_ready,
    input  logic [127:0] words
);
    localparam logic [2:0] IDLE = 3'd0, LOAD = 3'd1, STEP = 3'd2, FINISH = 3'd3, RAW = 3'd4, DRAIN = 3'd5, DONE = 3'd6;
    logic [2:0] phase, fault;
    logic [31:0] ordinal, steps_left;  // of what enters the pipeline
    logic [30:0] size_left;            // words not yet taken
    logic [5:0] step;                  // half states of LOAD, states of FINISH
    logic [15:0] low;                  // the half state before; in RAW the word that bits are taken from
    logic [4:0] raw_at;                // RAW: the bit in `low` that is next, 16 if none
    logic raw_half;                    // RAW: the word to come is the high half of its group
    logic is_prior;

    logic [31:0] states[32];
    wire [4:0] lane_mask = wide ? 5'd31 : 5'd3;
    wire any_plane = planes != 4'd0 || with_sign;

    assign tile_ready = phase == IDLE;
    wire begins = tile_valid && tile_ready;

    // Words of a raw tile: two for each aligned group of 32 ordinals that it touches.
    wire [31:0] last = first + count - 32'd1;
    wire [30:0] raw_size = count == 32'd0 ? 31'd0 : {3'd0, {1'b0, last[31:5]} - {1'b0, first[31:5]} + 28'd1} << 1;
    wire [30:0] least = count == 32'd0 ? 31'd0 : (wide ? 31'd64 : 31'd8);

    // -- STEP: v and f (stage A), state and comparison (B), product (C), the new state (D)
    logic asking, v_valid, a_valid, b_valid, c_valid;
    logic [8:0] v;
    logic [4:0] a_lane, b_lane, c_lane;
    logic [11:0] a_f, b_rest;
    logic [12:0] b_g;
    logic [19:0] b_quotient;
    logic b_bit, c_bit;
    logic [31:0] c_product;
    logic [11:0] c_rest;

    logic [11:0] f;
    integer i;
    always_comb begin
        f = densities[11:0];
        for (i = 1; i < 16; i = i + 1) begin
            if (v >= starts[9*i+:9]) f = densities[12*i+:12];
        end
        if (!is_prior) f = densities[11:0];
    end

    wire [31:0] x_read = states[a_lane];
    wire a_bit = x_read[11:0] < a_f;
    wire [31:0] x_next = c_product + {20'd0, c_rest};
    wire wants = x_next < 32'h10000;
    wire starved = phase == STEP && c_valid && wants && size_left == 31'd0;
    wire go = phase == STEP && !starved && (!c_valid || (bit_ready && (!wants || word_valid)));
    wire enters = steps_left != 32'd0 && (!is_prior || v_valid);

    score_planes scores (
        .clk(clk), .rst(rst), .layer(layer), .planes(planes), .with_sign(with_sign),
        .start(begins && any_plane && !raw && count != 32'd0), .first(first), .last_group(last[31:7]), .v_valid(v_valid), .v(v),
        .take(go && enters && is_prior), .stop(phase == DRAIN), .asking(asking), .call_valid(call_valid), .call_ready(call_ready), .counter(counter),
        .words_valid(words_valid), .words_ready(words_ready), .words(words)
    );

    // -- RAW
    wire raw_empty = raw_at[4];
    wire raw_more = steps_left != 32'd0;
    // Once all bits are out, whatever is still in the word must be 0.
    wire raw_stray = !raw_empty && !raw_more && (low >> raw_at[3:0]) != 16'd0;
    // So must be a half of a group before the tile's first bit, or after its last, and the bits before the first in its own.
    wire raw_skips = raw_half != ordinal[4];
    wire raw_foreign = (!raw_more || raw_skips) ? word != 16'd0 : (word & ~(16'hFFFF << ordinal[3:0])) != 16'd0;

    always_comb begin
        word_ready = 1'b0;
        bit_valid = 1'b0;
        mask_bit = c_bit;
        case (phase)
            LOAD: word_ready = 1'b1;
            STEP: begin
                bit_valid = c_valid && !starved && (!wants || word_valid);
                word_ready = c_valid && !starved && wants && bit_ready;
            end
            RAW: begin
                mask_bit = low[raw_at[3:0]];
                bit_valid = !raw_empty && raw_more;
                word_ready = raw_empty && size_left != 31'd0;
            end
            DRAIN: word_ready = size_left != 31'd0;
            default: ;
        endcase
    end
    wire takes_word = word_ready && word_valid;
    assign done = phase == DONE;
    assign refused = fault;

    wire [31:0] loaded = {word, low};
    wire [4:0] load_lane = step[5:1];
    wire last_load = step == {lane_mask, 1'b1};

    always_ff @(posedge clk) begin
        if (rst) begin
            phase <= IDLE;
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
                LOAD: if (takes_word && step[0]) begin
                    if (word == 16'd0) begin
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
                    if (states[step[4:0]] != 32'h10000) begin
                        fault <= 3'd4;
                        phase <= DRAIN;
                    end else if (step[4:0] == lane_mask) begin
                        if (size_left != 31'd0) fault <= 3'd5;
                        phase <= DRAIN;
                    end
                end
                RAW: begin
                    if (raw_stray || (takes_word && raw_foreign)) begin
                        fault <= 3'd7;
                        phase <= DRAIN;
                    end else if (!raw_more && size_left == 31'd0) phase <= DONE;
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
            if (phase == LOAD && takes_word) step <= last_load ? 6'd0 : step + 6'd1;
            if (phase == FINISH) step <= step + 6'd1;
            if ((phase == STEP && go && enters) || (phase == RAW && bit_valid && bit_ready)) begin
                ordinal <= ordinal + 32'd1;
                steps_left <= steps_left - 32'd1;
            end
            if (phase == RAW) begin
                if (takes_word) raw_half <= !raw_half;
                if (takes_word && !raw_skips && raw_more) raw_at <= {1'b0, ordinal[3:0]};
                else if (bit_valid && bit_ready) raw_at <= raw_at + 5'd1;
                else if (!raw_empty && !raw_more) raw_at <= 5'd16;
            end
        end
        if (takes_word) low <= word;

        if (phase == LOAD && takes_word && step[0]) states[load_lane] <= loaded;
        else if (go && c_valid) states[c_lane] <= wants ? {x_next[15:0], word} : x_next;

        if (go) begin
            a_lane <= ordinal[4:0] & lane_mask;
            a_f <= f;
            b_lane <= a_lane;
            b_bit <= a_bit;
            b_quotient <= x_read[31:12];
            b_g <= a_bit ? {1'b0, a_f} : 13'd4096 - {1'b0, a_f};
            b_rest <= a_bit ? x_read[11:0] : x_read[11:0] - a_f;
            c_lane <= b_lane;
            c_bit <= b_bit;
            c_product <= b_quotient * b_g;
            c_rest <= b_rest;
        end
    end
endmodule
