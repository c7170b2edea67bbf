// A plane of the freeze law `mixed` from the blocks of planes 0 and 1 (docs/format.md, section 3): wires,
// XORs and a choice of 14. Combinational. Bits: none stored.
module mixed_plane (
    input  logic [127:0] a,      // block of plane 0
    input  logic [127:0] c,      // block of plane 1
    input  logic [  3:0] plane,
    output logic [127:0] out
);
    // The halves swapped if g >= 64, then each rotated by g mod 64.
    function automatic [127:0] moved(input [127:0] x, input integer g);
        logic [63:0] low, high;
        integer s;
        begin
            low = g >= 64 ? x[127:64] : x[63:0];
            high = g >= 64 ? x[63:0] : x[127:64];
            s = g % 64;
            moved = {(high << s) | (high >> (64 - s)), (low << s) | (low >> (64 - s))};
        end
    endfunction

    wire [127:0] t = a ^ moved(c, 33) ^ moved(a, 38);
    wire [127:0] u = c ^ moved(a, 95) ^ moved(c, 72);
    wire [127:0] w = a ^ moved(a, 109) ^ moved(c, 52);

    always_comb begin
        case (plane)
            4'd0: out = a;
            4'd1: out = c;
            4'd2: out = t ^ moved(u, 107);
            4'd3: out = moved(t, 56) ^ moved(u, 8);
            4'd4: out = moved(t, 120) ^ moved(u, 53);
            4'd5: out = moved(t, 8) ^ moved(u, 25);
            4'd6: out = moved(t, 48) ^ moved(u, 58);
            4'd7: out = moved(t, 16) ^ moved(u, 101);
            4'd8: out = moved(t, 98) ^ moved(w, 51);
            4'd9: out = moved(t, 45) ^ moved(w, 98);
            4'd10: out = moved(t, 30) ^ moved(w, 120);
            4'd11: out = moved(t, 57) ^ moved(w, 58);
            4'd12: out = moved(u, 106) ^ moved(w, 33);
            4'd13: out = moved(u, 85) ^ moved(w, 97);
            4'd14: out = moved(u, 86) ^ moved(w, 113);
            default: out = moved(u, 29) ^ moved(w, 70);
        endcase
    end
endmodule
