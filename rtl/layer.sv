// One layer in int8, from the words of its mask to its rounded values: pattern.sv and mask_decoder.sv with a
// generator each, kept.sv, two banks of weights of ROWS rows, windows.sv, adder_tile.sv and requantise.sv.
// While a group of ROWS rows is computed with from one bank, the other is filled. Values leave in the order
// group of rows, pixel, row. Of one group of channels and one coat, without flips. A tile is found to be
// damaged at its end at the latest: the values are good once the last has left, tile_ready is 1 and refused
// 0. Cycles: docs/rtl.md. Bits: those of its units and 2 * 2 * 128 * ROWS * BLOCKS of weights, register files
// here.
module layer #(
    parameter integer ROWS = 8,       // a power of two, 2 or more
    parameter integer COLUMNS = 8,    // a power of two, 2 to 128
    parameter integer BLOCKS = 16,    // K at most 128 * BLOCKS; a power of two, 2 or more
    parameter integer PER_CYCLE = 1,  // rounds of a generator a cycle
    parameter integer WIDTH = 1,      // mask bits a cycle: 1, 2 or 4
    parameter integer ADDRESS = 24,   // bits of an activation word's address
    parameter integer POW2 = 0       // 1: multipliers are powers of two
) (
    input  logic                 clk,
    input  logic                 rst,
    // the layer; all stays while it works
    input  logic [         63:0] seed,
    input  logic [          4:0] rounds,
    input  logic [         31:0] layer_id,
    input  logic                 mixed,
    input  logic [          4:0] bits,
    input  logic [         16:0] prune,
    input  logic [         16:0] lock,
    input  logic [         20:0] out,
    input  logic [         24:0] k,
    input  logic                 constant,   // no tiles: the mask is `value` everywhere
    input  logic                 value,
    input  logic                 wide,
    input  logic [          3:0] planes,
    input  logic                 with_sign,
    input  logic [        143:0] starts,
    input  logic [        191:0] densities,
    input  logic [          4:0] shift,
    input  logic [         15:0] m_r,
    input  logic                 residual,   // r is added
    input  logic                 relu,
    input  logic                 logits,
    // its windows (windows.sv)
    input  logic                 whole,
    input  logic [         24:0] channels,
    input  logic [          6:0] kernel_rows,
    input  logic [          6:0] kernel_columns,
    input  logic [          6:0] stride,
    input  logic [          6:0] padding,
    input  logic [         14:0] height,
    input  logic [         14:0] width,
    input  logic [         14:0] out_rows,
    input  logic [         14:0] out_columns,
    input  logic [         27:0] pixels,     // out_rows * out_columns
    input  logic [  ADDRESS-1:0] origin,
    input  logic [  ADDRESS-1:0] pitch,
    input  logic [  ADDRESS-1:0] row_pitch,
    input  logic [  ADDRESS-1:0] pixel_step,
    input  logic [  ADDRESS-1:0] row_step,
    input  logic                 start,      // for one cycle
    // the mask
    input  logic                 tile_valid,
    output logic                 tile_ready,
    input  logic                 raw,
    input  logic [         31:0] first,
    input  logic [         31:0] count,
    input  logic [         30:0] size,
    input  logic                 word_valid,
    output logic                 word_ready,
    input  logic [         15:0] word,
    output logic [          2:0] refused,    // of the first tile that was; none is taken after it until rst
    // the activations, in a memory
    output logic                 read_valid,
    input  logic                 read_ready,
    output logic [  ADDRESS-1:0] read_address,
    input  logic [COLUMNS*8-1:0] read_word,
    // the multiplier and the bias of a row, in the same cycle
    output logic [         20:0] affine_row,
    input  logic [         15:0] m,
    input  logic [         47:0] b,
    // the residual, in the order of the values
    input  logic                 r_valid,
    output logic                 r_ready,
    input  logic [          7:0] r,
    // the values
    output logic                 y_valid,
    input  logic                 y_ready,
    output logic [         31:0] y
);
    // -- making weights
    logic p_call, p_call_ready, p_words_valid, p_words_ready;
    logic [127:0] p_counter, p_words;
    threefry #(.PER_CYCLE(PER_CYCLE)) pattern_generator (
        .clk(clk), .rst(rst), .key({64'd0, seed}), .rounds(rounds), .in_valid(p_call),
        .in_ready(p_call_ready), .counter(p_counter), .out_valid(p_words_valid), .out_ready(p_words_ready),
        .out(p_words)
    );
    logic d_call, d_call_ready, d_words_valid, d_words_ready;
    logic [127:0] d_counter, d_words;
    threefry #(.PER_CYCLE(PER_CYCLE)) score_generator (
        .clk(clk), .rst(rst), .key({64'd0, seed}), .rounds(rounds), .in_valid(d_call),
        .in_ready(d_call_ready), .counter(d_counter), .out_valid(d_words_valid), .out_ready(d_words_ready),
        .out(d_words)
    );

    wire [17:0] across = k[24:7] + {17'd0, k[6:0] != 7'd0};
    logic asking;
    logic [31:0] block;       // that is asked of the pattern
    logic [20:0] ask_row;
    logic [17:0] ask_column;  // block of the row
    wire last_column = ask_column == across - 18'd1;
    wire [7:0] columns = (last_column && k[6:0] != 7'd0) ? {1'b0, k[6:0]} : 8'd128;

    logic block_ready, p_valid, p_ready;
    logic [127:0] free, locked, negative;
    pattern blocks (
        .clk(clk), .rst(rst), .layer(layer_id), .mixed(mixed), .bits(bits), .prune(prune), .lock(lock),
        .in_valid(asking), .in_ready(block_ready), .block(block), .columns(columns), .call_valid(p_call),
        .call_ready(p_call_ready), .counter(p_counter), .words_valid(p_words_valid),
        .words_ready(p_words_ready), .words(p_words), .out_valid(p_valid), .out_ready(p_ready), .free(free),
        .locked(locked), .negative(negative)
    );
    localparam integer COUNT = $clog2(WIDTH + 1);
    logic bit_valid, bit_ready, done;
    logic [WIDTH-1:0] mask_bits;
    logic [COUNT-1:0] bit_count;
    logic [2:0] fault;
    wire stopped = refused != 3'd0;
    logic decoder_ready;
    assign tile_ready = decoder_ready && !stopped;
    mask_decoder #(.WIDTH(WIDTH)) decoder (
        .clk(clk), .rst(rst), .layer(layer_id), .wide(wide), .planes(planes), .with_sign(with_sign),
        .starts(starts), .densities(densities), .tile_valid(tile_valid && !stopped),
        .tile_ready(decoder_ready), .raw(raw), .first(first), .count(count), .size(size),
        .word_valid(word_valid), .word_ready(word_ready), .word(word), .bit_valid(bit_valid),
        .bit_ready(bit_ready), .mask_bits(mask_bits), .bit_count(bit_count), .done(done), .refused(fault),
        .call_valid(d_call), .call_ready(d_call_ready), .counter(d_counter), .words_valid(d_words_valid),
        .words_ready(d_words_ready), .words(d_words)
    );
    logic w_valid, w_ready;
    logic [127:0] w_kept, w_negative;
    kept #(.WIDTH(WIDTH)) weights (
        .clk(clk), .rst(rst), .constant(constant), .value(value), .in_valid(p_valid), .in_ready(p_ready),
        .free(free), .locked(locked), .negative(negative), .bit_valid(bit_valid), .bit_ready(bit_ready),
        .mask_bits(mask_bits), .bit_count(bit_count), .out_valid(w_valid), .out_ready(w_ready),
        .out_kept(w_kept), .out_negative(w_negative)
    );

    // -- two banks of weights
    logic [1:0] full;
    logic fill_bank, use_bank;
    logic [20:0] fill_base, use_base, out_base;  // first rows: of the bank that is filled, used, of the sums
    logic [20:0] fill_row;                       // in the bank
    logic [17:0] fill_column;
    wire [20:0] rows_left = out - fill_base;
    wire last_fill_row = fill_row == ROWS[20:0] - 21'd1 || fill_row == rows_left - 21'd1;
    wire last_fill = last_fill_row && fill_column == across - 18'd1;
    assign w_ready = !full[fill_bank];
    wire fills = w_valid && w_ready;

    // -- computing
    localparam integer LOG_ROWS = $clog2(ROWS);
    wire [20:0] groups = {{LOG_ROWS{1'b0}}, out[20:LOG_ROWS]} + {20'd0, out[LOG_ROWS-1:0] != '0};
    logic act_valid, act_ready;
    logic [COLUMNS*8-1:0] activations;
    windows #(.COLUMNS(COLUMNS), .ADDRESS(ADDRESS)) gather (
        .clk(clk), .rst(rst), .start(start), .groups(groups), .whole(whole), .channels(channels),
        .kernel_rows(kernel_rows), .kernel_columns(kernel_columns), .stride(stride), .padding(padding),
        .height(height), .width(width), .out_rows(out_rows), .out_columns(out_columns), .origin(origin),
        .pitch(pitch), .row_pitch(row_pitch), .pixel_step(pixel_step), .row_step(row_step),
        .read_valid(read_valid), .read_ready(read_ready), .read_address(read_address), .read_word(read_word),
        .out_valid(act_valid), .out_ready(act_ready), .out(activations)
    );

    logic [27:0] pixel, out_pixel;
    logic [24:0] at;  // in K
    wire [24:0] after = at + COLUMNS[24:0];
    wire last_step = after >= k;
    logic tile_in_ready;
    wire feeds = full[use_bank] && act_valid;
    assign act_ready = full[use_bank] && tile_in_ready;
    wire steps = feeds && tile_in_ready;
    wire last_use = steps && last_step && pixel == pixels - 28'd1;

    localparam integer PLACE = $clog2(BLOCKS);
    wire [ROWS*COLUMNS-1:0] kept_now, negative_now;
    genvar g;
    generate
        for (g = 0; g < ROWS; g = g + 1) begin : g_row
            logic [255:0] store[2*BLOCKS];
            wire [255:0] read = store[{use_bank, at[7+:PLACE]}];
            wire there = use_base + g[20:0] < out;
            wire [127:0] read_kept = read[127:0], read_negative = read[255:128];
            assign kept_now[COLUMNS*g+:COLUMNS] = there ? read_kept[at[6:0]+:COLUMNS] : '0;
            assign negative_now[COLUMNS*g+:COLUMNS] = read_negative[at[6:0]+:COLUMNS];
            always_ff @(posedge clk) begin
                if (fills && fill_row == g[20:0]) begin
                    store[{fill_bank, fill_column[PLACE-1:0]}] <= {w_negative, w_kept};
                end
            end
        end
    endgenerate

    logic sums_valid, sums_ready;
    logic [ROWS*32-1:0] sums;
    adder_tile #(.ROWS(ROWS), .COLUMNS(COLUMNS)) adders (
        .clk(clk), .rst(rst), .in_valid(feeds), .in_ready(tile_in_ready), .last(last_step),
        .activations(activations), .kept(kept_now), .negative(negative_now), .out_valid(sums_valid),
        .out_ready(sums_ready), .sums(sums)
    );

    // -- rounding, row after row
    logic [20:0] out_row;  // in the block
    wire [20:0] out_left = out - out_base;
    wire last_row = out_row == ROWS[20:0] - 21'd1 || out_row == out_left - 21'd1;
    logic round_ready;
    wire rounds_one = sums_valid && (!residual || r_valid) && round_ready;
    assign sums_ready = last_row && rounds_one;
    assign r_ready = sums_valid && residual && round_ready;
    assign affine_row = out_base + out_row;
    logic [31:0] acc;
    integer i;
    always_comb begin
        acc = sums[31:0];
        for (i = 1; i < ROWS; i = i + 1) begin
            if (out_row == i[20:0]) acc = sums[32*i+:32];
        end
    end
    requantise #(.POW2(POW2)) rounding (
        .clk(clk), .rst(rst), .s(shift), .relu(relu), .logits(logits),
        .in_valid(sums_valid && (!residual || r_valid)), .in_ready(round_ready), .acc(acc),
        .r(residual ? r : 8'd0), .m(m), .m_r(m_r), .b(b), .out_valid(y_valid), .out_ready(y_ready), .y(y)
    );

    always_ff @(posedge clk) begin
        if (rst) begin
            asking <= 1'b0;
            full <= 2'b00;
            refused <= 3'd0;
        end else begin
            if (start) asking <= 1'b1;
            else if (block_ready && last_column && ask_row == out - 21'd1) asking <= 1'b0;
            if (start) begin
                full <= 2'b00;
            end else begin
                if (fills && last_fill) full[fill_bank] <= 1'b1;
                if (last_use) full[use_bank] <= 1'b0;
                if (done && refused == 3'd0) refused <= fault;
            end
        end
        if (start) begin
            block <= '0;
            ask_row <= '0;
            ask_column <= '0;
            fill_bank <= 1'b0;
            use_bank <= 1'b0;
            fill_base <= '0;
            use_base <= '0;
            out_base <= '0;
            fill_row <= '0;
            fill_column <= '0;
            pixel <= '0;
            out_pixel <= '0;
            out_row <= '0;
            at <= '0;
        end else begin
            if (asking && block_ready) begin
                block <= block + 32'd1;
                ask_column <= last_column ? '0 : ask_column + 18'd1;
                if (last_column) ask_row <= ask_row + 21'd1;
            end
            if (fills) begin
                if (last_fill) begin
                    fill_bank <= !fill_bank;
                    fill_base <= fill_base + ROWS[20:0];
                    fill_row <= '0;
                    fill_column <= '0;
                end else if (fill_column == across - 18'd1) begin
                    fill_row <= fill_row + 21'd1;
                    fill_column <= '0;
                end else begin
                    fill_column <= fill_column + 18'd1;
                end
            end
            if (steps) begin
                at <= last_step ? '0 : after;
                if (last_step) pixel <= last_use ? '0 : pixel + 28'd1;
                if (last_use) begin
                    use_bank <= !use_bank;
                    use_base <= use_base + ROWS[20:0];
                end
            end
            if (rounds_one) begin
                out_row <= last_row ? '0 : out_row + 21'd1;
                if (last_row) begin
                    out_pixel <= out_pixel == pixels - 28'd1 ? '0 : out_pixel + 28'd1;
                    if (out_pixel == pixels - 28'd1) out_base <= out_base + ROWS[20:0];
                end
            end
        end
    end
endmodule
